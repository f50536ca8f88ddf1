import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import type { TestProject } from "vitest/node";
import { NatsCluster, savedNats } from "./nats-server.ts";
import { PrivatePostgres, savedServer } from "./postgres-server.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** A directory of this run, in which test files that share a server find each other. */
    servers: string;
  }
}

let directory: string | undefined;

/** Vitest's global setup: a place for servers that the first test that needs one starts. */
export function setup(project: TestProject): void {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "eventfold-es-servers-"));
  project.provide("servers", directory);
}

/** Stops the servers when the run is over. */
export async function teardown(): Promise<void> {
  if (directory === undefined) return;
  const postgres = savedServer(directory);
  if (fs.existsSync(postgres)) await PrivatePostgres.removeSaved(postgres);
  const nats = savedNats(directory);
  if (fs.existsSync(nats)) NatsCluster.removeSaved(nats);
  fs.rmSync(directory, { recursive: true, force: true });
}
