/** Views for people and their tools; the store itself never reads them, so what they show may grow. */
export function viewsSql(s: string): string {
  return `
create view ${s}.history as
  select position, to_timestamp(timestamp / 1000.0) as at, aggregate, id, version, type, data, actor,
    meta ->> 'correlation_id' as correlation_id, meta ->> 'causation_id' as causation_id, event_id, meta
  from ${s}.events where dropped_at is null and cut is distinct from 'compacted';
create view ${s}.streams as
  select f.aggregate, f.id, l.version, to_timestamp(f.timestamp / 1000.0) as first_at, to_timestamp(l.timestamp / 1000.0) as last_at,
    l.type as last_type, l.position as last_position
  from ${s}.events f
  cross join lateral (
    select e.version, e.timestamp, e.type, e.position from ${s}.events e
    where e.aggregate = f.aggregate and e.id = f.id order by e.version desc limit 1) l
  where (f.version = 1 or f.cut is not null) and f.dropped_at is null
    and not (f.cut is not distinct from 'deleted' and l.version = f.version);
create view ${s}.consumers as
  select c.kind, c.name, (c.checkpoint ->> 'position')::bigint as last_position,
    (select max(e.position) from ${s}.events e) as head
  from ${s}.checkpoints c where c.kind in ('projection', 'process-manager', 'subscription');
create view ${s}.dead_letters as
  select l.consumer as process_manager, l.key, to_timestamp((l.letter ->> 'ts')::bigint) as at,
    l.letter #>> '{envelope,aggregate_type}' as aggregate, l.letter #>> '{envelope,instance_id}' as id,
    l.letter ->> 'error' as error, l.letter
  from ${s}.letters l;
`;
}
