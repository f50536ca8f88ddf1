import type { EventStore } from "eventfold-es/testing";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { JetStreamEventStore } from "../../src/jetstream/jetstream-event-store.ts";
import { LossyProxy } from "../support/lossy-proxy.ts";
import { describeNats, type TestNats } from "../support/nats.ts";
import { append, event, events, type OutageStage, outageTests, PATIENT_MS } from "../support/outage-tests.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

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

function open(
  connection: Awaited<ReturnType<TestNats["connect"]>>,
  name: string,
  patience: number,
): Promise<EventStore> {
  return JetStreamEventStore.open({ connection, name, directory: temporaryDirectory(), patience });
}
