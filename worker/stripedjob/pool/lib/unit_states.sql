-- The legal changes of a unit's state; everything else is refused, whoever asks.
create or replace function @extschema@.guard_unit_state() returns trigger language plpgsql as $$
begin
    if (old.state, new.state) in (
        ('ready', 'delayed'), ('ready', 'held'), ('ready', 'dead'), ('ready', 'done'),
        ('delayed', 'ready'), ('held', 'ready'), ('dead', 'ready'), ('delayed', 'dead'), ('held', 'dead')
    ) then
        return new;
    end if;
    raise exception 'unit % cannot go from % to %', old.id, old.state, new.state
        using errcode = 'check_violation', schema = tg_table_schema, table = tg_table_name, column = 'state';
end
$$;
create or replace trigger guard_state before update of state on @extschema@.unit
    for each row when (old.state is distinct from new.state) execute function @extschema@.guard_unit_state();
