/**
 * The function that carries a batch of commits out: one call, one transaction, one round trip.
 *
 * - The lock is taken first and held until the transaction ends, so batches of all processes come one after the other, and positions
 *   have neither holes nor readers that overtake them. A sequence could promise neither: numbers that are rolled back are holes, and a
 *   later number can be committed first.
 * - Each statement after the lock must see what the previous holder has committed. That is so in READ COMMITTED, where every statement
 *   takes a new snapshot; elsewhere the function refuses. The unique constraints are the safety net.
 * - With \`again\`, the batch may have been carried out already by a call whose answer was lost. Its first slot (a version of a
 *   stream, or a number of a consumer) then has this batch's id, and the first answer is given once more. A first call that is still
 *   under way has the lock, or waits for it: whichever of the two comes second finds the slot taken.
 *
 * A cut marks the earlier events of its stream as dropped. Those of a deleted instance lose their contents at once. Their rows stay, so
 * that a batch whose answer was lost still finds its slot. Those that a compaction replaces keep their contents for readers that began
 * before it. The events of the compaction have its position, so that these readers do not get them.
 *
 * A batch that only compares versions writes nothing, and does not wait for the lock.
 *
 * Returns the position before the batch's first event; or -1 and, for each expectation that was wrong, three numbers: 0 for a stream
 * or 1 for a consumer, its number in the batch, and what it has.
 */
export function commitBatchSql(s: string): string {
  return `
create function ${s}.commit_batch(
  batch_id uuid, again boolean, flushed boolean,
  s_aggregate text[], s_id text[], s_expected bigint[],
  c_name text[], c_expected bigint[],
  e_stream integer[], e_version bigint[], e_type text[], e_data text[], e_schema integer[], e_time bigint[], e_id text[], e_actor text[], e_meta text[], e_cut text[], e_of_cut bigint[],
  n_name text[], n_sequence bigint[], n_note text[],
  l_name text[], l_key text[], l_letter text[]
) returns bigint[] language plpgsql as $$
declare
  head bigint;
  found_at bigint;
  wrong bigint[] := '{}';
  each record;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'commit_batch needs transaction isolation read committed, not %', current_setting('transaction_isolation');
  end if;
  if cardinality(e_type) + cardinality(n_name) > 0 then
    perform pg_advisory_xact_lock(hashtextextended('eventfold-es ' || ${literal(s)}, 1));
    if not flushed then
      perform set_config('synchronous_commit', 'off', true);
    end if;
  end if;
  select coalesce(max(e.position), 0) into head from ${s}.events e;
  if again and cardinality(e_type) > 0 then
    select e.position into found_at from ${s}.events e
      where e.aggregate = s_aggregate[e_stream[1]] and e.id = s_id[e_stream[1]] and e.version = e_version[1] and e.batch = batch_id;
    if found then
      return array[found_at - 1];
    end if;
  elsif again and cardinality(n_name) > 0 then
    perform 1 from ${s}.notes n where n.consumer = n_name[1] and n.sequence = n_sequence[1] and n.batch = batch_id;
    if found then
      return array[head];
    end if;
  end if;
  for each in
    select x.number, x.actual from (
      select u.number, u.expected, coalesce((
        select e.version from ${s}.events e where e.aggregate = u.aggregate and e.id = u.id order by e.version desc limit 1), 0) as actual
      from unnest(s_aggregate, s_id, s_expected) with ordinality as u(aggregate, id, expected, number)) x
    where x.actual <> x.expected
  loop
    wrong := wrong || array[0, each.number, each.actual];
  end loop;
  if cardinality(c_name) > 0 then
    for each in
      select x.number, x.actual from (
        select u.number, u.expected, coalesce((
          select n.sequence from ${s}.notes n where n.consumer = u.name order by n.sequence desc limit 1), 0) as actual
        from unnest(c_name, c_expected) with ordinality as u(name, expected, number)) x
      where x.actual <> x.expected
    loop
      wrong := wrong || array[1, each.number, each.actual];
    end loop;
  end if;
  if cardinality(wrong) > 0 then
    return -1 || wrong;
  end if;
  if cardinality(e_type) > 0 then
    insert into ${s}.events (position, aggregate, id, version, type, data, schema_version, timestamp, event_id, actor, meta, batch, cut, compacted_at)
      select head + u.number, s_aggregate[u.stream], s_id[u.stream], u.version, u.type, u.data::json, u.schema, u.time, u.event_id, u.actor, u.meta::json, batch_id, u.cut, head + u.number - u.of_cut
      from unnest(e_stream, e_version, e_type, e_data, e_schema, e_time, e_id, e_actor, e_meta, e_cut, e_of_cut)
        with ordinality as u(stream, version, type, data, schema, time, event_id, actor, meta, cut, of_cut, number);
    for each in
      select s_aggregate[u.stream] as aggregate, s_id[u.stream] as id, u.version, u.cut, head + u.number as position
      from unnest(e_stream, e_version, e_cut) with ordinality as u(stream, version, cut, number)
      where u.cut is not null order by u.number
    loop
      update ${s}.events e set dropped_at = each.position
        where e.aggregate = each.aggregate and e.id = each.id and e.version < each.version and e.dropped_at is null;
      if each.cut = 'deleted' then
        update ${s}.events e set type = '', data = 'null', event_id = null, actor = null, meta = null
          where e.aggregate = each.aggregate and e.id = each.id and e.version < each.version and e.type <> '';
      end if;
      delete from ${s}.snapshots n where n.aggregate = each.aggregate and n.id = each.id;
    end loop;
  end if;
  if cardinality(n_name) > 0 then
    insert into ${s}.notes (consumer, sequence, note, batch)
      select u.name, u.sequence, u.note::json, batch_id from unnest(n_name, n_sequence, n_note) as u(name, sequence, note);
    for each in
      select * from unnest(l_name, l_key, l_letter) as u(name, key, letter)
    loop
      if each.letter is null then
        delete from ${s}.letters l where l.consumer = each.name and l.key = each.key;
        continue;
      end if;
      update ${s}.letters l set letter = each.letter::json where l.consumer = each.name and l.key = each.key;
      if not found then
        insert into ${s}.letters (consumer, key, letter) values (each.name, each.key, each.letter::json);
      end if;
    end loop;
  end if;
  return array[head];
end $$;
`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
