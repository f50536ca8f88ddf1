import type { NatsConnection } from "@nats-io/transport-node";
import type { EventStore } from "eventfold-es/testing";
import { EventfoldError } from "eventfold-es";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { StreamKeys } from "../../src/file-store/streams/stream-keys.ts";
import { JetStreamEventStore } from "../../src/jetstream/jetstream-event-store.ts";
import { LossyProxy } from "../support/lossy-proxy.ts";
import { describeNats, type TestNats } from "../support/nats.ts";
import { append, event, events, type OutageStage, outageTests, PATIENT_MS } from "../support/outage-tests.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

// oxlint-disable-next-line typescript/unbound-method -- called with its own `this`
const keysOf = StreamKeys.prototype.of;
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

describeNats("a nats-server whose answers are lost, or that is away", (nats) => {
  outageTests({
    stage: (patience) => stage(nats, patience),
    open: async (proxy, patience) => {
      const connection = await nats.connect({ servers: nats.urls });
      const away = await nats.connect({ servers: [proxy.url], ignoreClusterUpdates: true });
      proxy.down();
      onTestFinished(() => connection.close());
      return open(away, nats.name(), patience);
    },
    proxy: async () => {
      const proxy = await startProxy(nats);
      onTestFinished(() => proxy.stop());
      return proxy;
    },
    isCommitAnswer: (bytes) => /"seq":\s?\d+\}/.test(bytes.toString("latin1")),
    isCommitRequest: (bytes) => bytes.includes("Nats-Expected-Last-Sequence"),
    readsFromServer: false,
  });
});

describeNats("a commit that is too large for a message", (nats) => {
  const large = event("Large", "l", JSON.stringify("x".repeat(600_000)));

  test("is refused, and its neighbours are not", async () => {
    const { store, direct } = await stage(nats, PATIENT_MS);
    const outcomes = await Promise.allSettled([
      store.commit(append("ada", 0, large)),
      store.commit(append("bob", 0, large, large)),
      store.commit(append("cal", 0, large)),
    ]);
    expect(outcomes[1]).toMatchObject({
      reason: { code: "INVALID_PAYLOAD", message: expect.stringContaining("max_payload") as string },
    });
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect((await events(direct)).map(({ stream }) => stream.id)).toEqual(["ada", "cal"]);
  });

  test("takes with it what rests on it", async () => {
    const { store, direct } = await stage(nats, PATIENT_MS);
    const chain = { broken: false };
    const outcomes = await Promise.allSettled([
      store.commit({ ...append("ada", 0, event("A")), chain }),
      store.commit({ ...append("ada", 1, large, large), chain }),
      store.commit({ ...append("bob", 0, event("B")), chain }),
      store.commit(append("cal", 0, event("C"))),
    ]);
    expect(outcomes.map((each) => each.status === "fulfilled" && each.value.ok)).toEqual([true, false, false, true]);
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "C"]);
  });
});

describeNats("a commit that one leader refuses and another one takes, while leaders change", (nats) => {
  const refusals: readonly (readonly [what: string, error: object])[] = [
    ["another last sequence", { code: 400, err_code: 10071, description: "wrong last sequence: 0" }],
    ["a system that is not available", { code: 503, err_code: 10008, description: "temporarily unavailable" }],
    ["a full disk", { code: 503, err_code: 10077, description: "no space left" }],
  ];
  test.each(refusals)("is found when the refusal with %s comes first", async (_, error) => {
    const [real, name] = [await nats.connect(), nats.name()];
    let refused = 0;
    const request = async (...given: Parameters<NatsConnection["request"]>) => {
      const answer = await real.request(...given);
      if (!given[0].endsWith(".commits") || ++refused % 2 === 0) return answer;
      return { data: Buffer.from(JSON.stringify({ error })) };
    };
    const connection = Object.create(real, { request: { value: request } }) as NatsConnection;
    const store = await open(connection, name, PATIENT_MS);
    closing.push(() => store.close());
    for (let n = 0; n < 6; n++)
      expect(await store.commit(append("ada", n, event("A", `${n}`)))).toEqual({ ok: true, position: n + 1 });
    expect(refused).toBe(6);
    expect((await events(store)).map(({ eventId }) => eventId)).toEqual(["0", "1", "2", "3", "4", "5"]);
  });
});

describeNats("a commit that a replica's disk refuses", (nats) => {
  test("fails alone, not with the commits of its batch", async () => {
    const { store, direct } = await stage(nats, PATIENT_MS);
    const local = vi.spyOn(StreamKeys.prototype, "of").mockImplementation(function (this: StreamKeys, stream) {
      if (stream.id === "s3") throw new EventfoldError("ID_COLLISION", "s3 and S3 are one directory here");
      return keysOf.call(this, stream);
    });
    onTestFinished(() => local.mockRestore());
    const commits = Array.from({ length: 8 }, (_, n) => store.commit(append(`s${n}`, 0, event("A", `${n}`))));
    const outcomes = await Promise.allSettled(commits);
    expect(outcomes.flatMap(({ status }, n) => (status === "rejected" ? [n] : []))).toEqual([3]);
    expect(outcomes[3]).toMatchObject({ reason: { code: "ID_COLLISION" } });
    expect((await events(direct)).length).toBe(7);
  });
});

async function startProxy(nats: TestNats): Promise<LossyProxy> {
  return LossyProxy.start(nats.urls[0] ?? "");
}

async function stage(nats: TestNats, patience: number): Promise<OutageStage> {
  const proxy = await startProxy(nats);
  const name = nats.name();
  const direct = await open(await nats.connect(), name, PATIENT_MS);
  const store = await open(await nats.connect({ servers: [proxy.url], ignoreClusterUpdates: true }), name, patience);
  closing.push(
    () => proxy.stop(),
    () => direct.close(),
    () => store.close(),
  );
  return { proxy, store, direct };
}

function open(connection: NatsConnection, name: string, patience: number): Promise<EventStore> {
  return JetStreamEventStore.open({ connection, name, directory: temporaryDirectory(), patience });
}
