import { EventfoldError } from "../../errors.ts";
import { type Database, type Row, untilAnswered } from "../connection/database.ts";
import { MIGRATIONS } from "./migrations.ts";
import { monotonicNow } from "../../real-timers.ts";

/** The oldest server that is tried to be understood: it has all that the schema needs. */
const OLDEST_SERVER = 12;

type Ask = (sql: string, values?: unknown[]) => Promise<Row[]>;

/**
 * Brings a store's schema to the version of this library, making it when missing. It only reads when there is nothing to do, so a role
 * without the right to create tables can open a store that exists. Throws `UNSUPPORTED_FORMAT` for a database that cannot keep a
 * store and for a schema of a newer version of the library.
 */
export async function migrate(database: Database, schema: string, quoted: string): Promise<void> {
  const deadline = monotonicNow() + database.patience;
  await untilAnswered(
    () => deadline,
    async () => {
      const client = await database.connect(database.attemptTime(deadline));
      try {
        const ask: Ask = (text, values = []) => database.run(client, { text, name: "" }, values, database.patience);
        await migrateWith(ask, schema, quoted);
      } finally {
        client.release();
      }
    },
  );
}

async function migrateWith(ask: Ask, schema: string, quoted: string): Promise<void> {
  const format = `${quoted}.format`;
  const [facts = []] = await ask(
    `select current_setting('server_version_num'), current_setting('server_version'), current_setting('server_encoding'),
      current_setting('transaction_isolation'), to_regclass($1) is not null`,
    [format],
  );
  checkServer(facts);
  const isThere =
    facts[4] === "t" && versionIn(await ask(`select version from ${format}`), schema) === MIGRATIONS.length;
  if (isThere) return;
  await ask("begin");
  try {
    // Of two processes that open a new store at the same time, the second finds everything done.
    await ask("select pg_advisory_xact_lock(hashtextextended('eventfold-es schema ' || $1, 1))", [schema]);
    const [has = []] = await ask("select to_regnamespace($1) is not null, to_regclass($2) is not null", [
      quoted,
      format,
    ]);
    if (has[0] !== "t") await ask(`create schema ${quoted}`);
    if (has[1] !== "t") await ask(`create table ${format} (version integer not null)`);
    const rows = await ask(`select version from ${format}`);
    // A query without parameters may hold many statements.
    for (const migration of MIGRATIONS.slice(versionIn(rows, schema))) await ask(migration(quoted));
    await ask(rows.length === 0 ? `insert into ${format} values ($1)` : `update ${format} set version = $1`, [
      MIGRATIONS.length,
    ]);
    await ask("commit");
  } catch (error) {
    await ask("rollback").catch(() => {});
    throw error;
  }
}

function checkServer([number, version, encoding, isolation]: Row): void {
  if (Number(number) < OLDEST_SERVER * 10_000)
    refuse(`PostgreSQL ${version} is too old: version ${OLDEST_SERVER} or newer is needed`);
  if (encoding !== "UTF8")
    refuse(
      `the database has the encoding ${encoding}, in which not every id can be written: create it with encoding 'UTF8'`,
    );
  if (isolation !== "read committed")
    refuse(
      `transactions of this role are "${isolation}" by default, and a commit must see what the one before it has written: ` +
        `set default_transaction_isolation to 'read committed' for the role or in the pool's options`,
    );
}

/** The version of the schema; 0 if it has none yet. */
function versionIn(rows: readonly Row[], schema: string): number {
  const version = Number(rows[0]?.[0] ?? 0);
  if (version > MIGRATIONS.length)
    refuse(
      `the schema ${schema} has version ${version} and this library knows ${MIGRATIONS.length}: a newer eventfold-es made it; update this one`,
    );
  return version;
}

function refuse(why: string): never {
  throw new EventfoldError("UNSUPPORTED_FORMAT", why);
}
