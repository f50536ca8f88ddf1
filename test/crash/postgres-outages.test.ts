import type { EventStore } from "eventfold-es/testing";
import * as net from "node:net";
import pg from "pg";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { PostgresEventStore } from "../../src/postgres/postgres-event-store.ts";
import { LossyProxy } from "../support/lossy-proxy.ts";
import { append, event, events, type OutageStage, outageTests, PATIENT_MS } from "../support/outage-tests.ts";
import { describePostgres, type TestPostgres } from "../support/postgres.ts";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

describePostgres("a PostgreSQL whose answers are lost, or that is away", (postgres) => {
  outageTests({
    stage: (patience) => stage(postgres, patience),
    open: (proxy, patience) => open(postgres.pool({ connectionString: proxy.url }), postgres.schema(), patience),
    proxy: async () => {
      const proxy = await LossyProxy.start(postgres.url);
      onTestFinished(() => proxy.stop());
      proxy.down();
      return proxy;
    },
    isCommitAnswer,
    isCommitRequest: (bytes) => bytes.includes('{"account"}') || bytes.includes('{"pm"}'),
    readsFromServer: true,
  });
});

test("a server that says goodbye in the same piece in which it welcomes a connection ends no process", async () => {
  const message = (type: string, body: Buffer): Buffer => {
    const head = Buffer.alloc(5, type);
    head.writeInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  };
  const farewell = Buffer.from("SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
  const welcome = [message("R", Buffer.alloc(4)), message("Z", Buffer.from("I")), message("E", farewell)];
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(Buffer.concat(welcome)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  const pool = new pg.Pool({ connectionString: `postgres://postgres@127.0.0.1:${port}/postgres` });
  await expect(open(pool, "s", 300)).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
  await pool.end();
  server.close();
});

describePostgres("a commit that the server refuses", (postgres) => {
  const poison = event("Poison", "p", "{");

  test("fails alone, not with the commits of its batch", async () => {
    const { store, direct } = await stage(postgres, PATIENT_MS);
    const commits = Array.from({ length: 20 }, (_, n) =>
      store.commit(append(`s${n}`, 0, n % 7 === 3 ? poison : event("A", `${n}`))),
    );
    const outcomes = await Promise.allSettled(commits);
    const failed = outcomes.flatMap(({ status }, n) => (status === "rejected" ? [n] : []));
    expect(failed).toEqual([3, 10, 17]);
    expect(outcomes[3]).toMatchObject({ reason: { code: "IO_ERROR" } });
    expect((await events(direct)).map(({ position }) => position)).toEqual(Array.from({ length: 17 }, (_, i) => i + 1));
  });

  test("takes with it what rests on it", async () => {
    const { store, direct } = await stage(postgres, PATIENT_MS);
    const chain = { broken: false };
    const outcomes = await Promise.allSettled([
      store.commit({ ...append("ada", 0, event("A")), chain }),
      store.commit({ ...append("ada", 1, poison), chain }),
      store.commit({ ...append("bob", 0, event("B")), chain }),
      store.commit(append("cal", 0, event("C"))),
    ]);
    expect(outcomes.map((each) => each.status === "fulfilled" && each.value.ok)).toEqual([true, false, false, true]);
    expect((await events(direct)).map(({ type }) => type)).toEqual(["A", "C"]);
  });

  test("is refused before it is sent when it is too large", async () => {
    const { store } = await stage(postgres, PATIENT_MS);
    const large = event("Large", "l", JSON.stringify("x".repeat(1 << 20)));
    const [one, tooMany] = await Promise.allSettled([
      store.commit(append("ada", 0, large)),
      store.commit(append("bob", 0, ...Array.from({ length: 65 }, () => large))),
    ]);
    expect(one).toMatchObject({ status: "fulfilled", value: { ok: true } });
    expect(tooMany).toMatchObject({ reason: { code: "INVALID_PAYLOAD" } });
  });
});

async function stage(postgres: TestPostgres, patience: number): Promise<OutageStage> {
  const proxy = await LossyProxy.start(postgres.url);
  const schema = postgres.schema();
  const direct = await open(postgres.pool(), schema, PATIENT_MS);
  const store = await open(postgres.pool({ connectionString: proxy.url, max: 4 }), schema, patience);
  closing.push(
    () => proxy.stop(),
    () => direct.close(),
    () => store.close(),
  );
  return { proxy, store, direct };
}

function open(pool: pg.Pool, schema: string, patience: number): Promise<EventStore> {
  return PostgresEventStore.open({ pool, schema, durability: "flush", patience, listens: false });
}

/** `commit_batch` returns an array of numbers, alone in its row. */
function isCommitAnswer(bytes: Buffer): boolean {
  return bytes.includes("{") && bytes.includes("}") && bytes.includes("SELECT 1");
}
