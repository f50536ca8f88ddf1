import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { PrivatePostgres } from "./postgres-server.ts";
import { openSoakStore } from "./soak-backends.ts";
import { audit, type SoakReport, SoakWriters } from "./soak-writers.ts";

const FAILURES = ["terminate", "kill backend", "kill server", "stop at once", "kill writer"] as const;
type Failure = (typeof FAILURES)[number];

/**
 * Lets three processes write to one store while backends, the whole server and writers are killed, and the server is stopped without a
 * checkpoint. Then compares every answer with what is stored, by id and position. Throws what is wrong.
 */
export async function soakPostgres({ seconds }: { readonly seconds: number }): Promise<SoakReport<Failure>> {
  // After a crash the server flushes its whole directory, file by file unless told otherwise, before it recovers.
  const server = await PrivatePostgres.create("-c recovery_init_sync_method=syncfs");
  const backend = { kind: "postgres", url: server.url, schema: "soak" } as const;
  const writers = new SoakWriters(() => backend);
  try {
    await writers.start();
    const failures: Record<Failure, number> = {
      ...{ terminate: 0, "kill backend": 0, "kill server": 0, "stop at once": 0, "kill writer": 0 },
    };
    const end = performance.now() + seconds * 1000;
    for (let n = 0; performance.now() < end; n++) {
      await pause(300 + Math.random() * 700);
      const failure = FAILURES[n % FAILURES.length] ?? "terminate";
      failures[failure]++;
      if (failure === "kill writer") await writers.killOne();
      else await bringAbout(failure, server);
    }
    await writers.finish();
    const { store, end: close } = await openSoakStore(backend, 10_000);
    const found = await audit(store, writers);
    await close();
    return { failures, ...found };
  } finally {
    await writers.remove();
    await server.remove();
  }
}

async function bringAbout(failure: Exclude<Failure, "kill writer">, server: PrivatePostgres): Promise<void> {
  if (failure === "kill server" || failure === "stop at once") {
    await (failure === "kill server" ? server.kill() : server.stop("immediate"));
    await server.start();
    return;
  }
  const client = new pg.Client({ connectionString: server.url });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ pid: number }>(
      "select pid from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend' order by state = 'active' desc, random() limit 1",
    );
    const pid = rows[0]?.pid;
    if (pid === undefined) return;
    if (failure === "terminate") await client.query("select pg_terminate_backend($1)", [pid]);
    else process.kill(pid, "SIGKILL");
  } catch {
    // It is just coming back from the failure before.
  } finally {
    await client.end().catch(() => {});
  }
}
