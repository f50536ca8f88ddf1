import type { ConnectionOptions, NatsConnection } from "@nats-io/transport-node";
import { afterAll, describe, inject, test } from "vitest";
import { connectTo, natsBinary, sharedNats } from "./nats-server.ts";

/** A server with JetStream for the tests of one file. */
export interface TestNats {
  readonly urls: string[];
  /** A connection that is closed when the file is done. */
  readonly connect: (options?: ConnectionOptions) => Promise<NatsConnection>;
  /** The name of a store that does not exist yet; it is deleted when the file is done. */
  readonly name: () => string;
}

const found = await sharedNats(inject("servers")).then(
  (urls) => ({ urls }),
  (error: unknown) => ({ missing: error instanceof Error ? error.message : String(error) }),
);

/** Tests that need JetStream. Without a server they are skipped, but fail where `CI` is set. */
export function describeNats(name: string, tests: (nats: TestNats) => void): void {
  if ("urls" in found) describe(name, () => tests(testNats(found.urls)));
  else withoutNats(name, found.missing);
}

/** For a file whose tests run on JetStream too. Throws where there is no server. */
export function requireNats(): TestNats {
  if ("missing" in found) throw new Error(`there must be a nats-server: ${found.missing}`);
  return testNats(found.urls);
}

/** Tests that start servers of their own, which they may kill. */
export function describePrivateNats(name: string, tests: () => void): void {
  if (natsBinary() !== undefined) describe(name, tests);
  else withoutNats(name, "its binary is not installed here");
}

function withoutNats(name: string, why: string): void {
  if (process.env["CI"] === undefined) describe.skip(`${name} (no nats-server: ${why})`, () => test("skipped"));
  else
    test(name, () => {
      throw new Error(`there must be a nats-server where CI is set: ${why}`);
    });
}

function testNats(urls: string[]): TestNats {
  const connections: NatsConnection[] = [];
  const names: string[] = [];
  afterAll(async () => {
    const connection = await connectTo(urls);
    for (const name of names)
      for (const stream of [name, `${name}_checkpoints`, `${name}_keys`])
        await connection.request(`$JS.API.STREAM.DELETE.${stream}`, "", { timeout: 5000 }).catch(() => {});
    await connection.close();
    await Promise.all(connections.map((each) => each.close()));
  });
  return {
    urls,
    connect: async (options = {}) => {
      const made = await connectTo(urls, options);
      connections.push(made);
      return made;
    },
    name: () => {
      const name = `test_${process.pid}_${Math.random().toString(36).slice(2)}`;
      names.push(name);
      return name;
    },
  };
}
