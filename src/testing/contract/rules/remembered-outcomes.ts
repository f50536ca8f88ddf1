import { CUT_TYPES } from "../../../cut.ts";
import type { Commit, StreamAppend, StreamName } from "../../../event-store/event-store.ts";
import { equal, within } from "../expect.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";
import { ADA, all, append, draft, mustCommit, stream } from "../store-calls.ts";

const OUTCOMES: StreamName = { type: `$outcomes.${ADA.type}`, id: ADA.id };

/** A commit to several streams. */
function together(...commits: readonly Commit[]): Commit {
  return { appends: commits.flatMap(({ appends }) => appends) };
}

function deletion({ appends }: Commit): Commit {
  return {
    appends: appends.map(({ expectedVersion, ...rest }): StreamAppend => {
      const data = JSON.stringify({ version: expectedVersion + 1, final: false });
      return { ...rest, expectedVersion, events: [draft(CUT_TYPES.deleted, data)], cut: "deleted" };
    }),
  };
}

/** Outcomes without events are remembered in a stream beside that of their instance. Each append compares the other stream. */
export const rememberedOutcomes: readonly Rule[] = [
  {
    name: "a commit that appends to one stream and compares another conflicts with either",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A"));
      const remember = (version: number, outcomes: number) =>
        together(append(ADA, version), append(OUTCOMES, outcomes, "R"));
      const write = (version: number, outcomes: number) =>
        together(append(ADA, version, "B"), append(OUTCOMES, outcomes));
      const refused = { ok: false, stream: ADA, actualVersion: 1 };
      equal(await within(store.commit(remember(0, 0))), refused, "an outcome of an old version");
      equal(await within(store.commit(remember(1, 0))), { ok: true, position: 2 }, "an outcome of the newest version");
      const late = { ok: false, stream: OUTCOMES, actualVersion: 1 };
      equal(await within(store.commit(remember(1, 0))), late, "an outcome that does not know the other one");
      equal(await within(store.commit(write(1, 0))), late, "an event that does not know the outcome");
      equal(await within(store.commit(write(1, 1))), { ok: true, position: 3 }, "an event that knows it");
      equal((await all(store)).map(placed), ["A@1:1", "R@1:2", "B@2:3"], "events");
      equal((await stream(store, OUTCOMES)).map(placed), ["R@1:2"], "outcomes");
      equal(await store.listStreams(), [OUTCOMES, ADA], "streams");
      equal(await store.listStreams("account"), [ADA], "streams of the type");
    },
  },
  {
    name: "commits in one chain may append to several streams and compare them",
    async run({ store }) {
      const chain = { broken: false };
      const results = await Promise.all(
        [
          together(append(ADA, 0), append(OUTCOMES, 0, "R")),
          together(append(ADA, 0, "A"), append(OUTCOMES, 1)),
          together(append(ADA, 1), append(OUTCOMES, 1, "S")),
          together(append(ADA, 1), append(OUTCOMES, 1, "X")),
          together(append(ADA, 1, "Y"), append(OUTCOMES, 2)),
        ].map((commit) => store.commit({ ...commit, chain })),
      );
      equal(
        results.map(({ ok }) => ok),
        [true, true, true, false, false],
        "results",
      );
      equal((await all(store)).map(placed), ["R@1:1", "A@1:2", "S@2:3"], "events");
    },
  },
  {
    name: "one commit deletes several streams",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A"));
      await mustCommit(store, append(OUTCOMES, 0, "R", "S"));
      const result = await within(store.commit(deletion(together(append(OUTCOMES, 2), append(ADA, 1)))));
      equal(result, { ok: true, position: 5 }, "result");
      equal(await store.listStreams(), [], "streams");
      equal((await stream(store, OUTCOMES)).map(placed), ["$deleted@3:4"], "outcomes");
      equal((await stream(store, ADA)).map(placed), ["$deleted@2:5"], "events of the stream");
    },
  },
];
