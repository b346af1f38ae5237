-- The locks of the backend Postgres. Unlogged: a crash of the server empties it, as a restart empties Redis; that costs
-- time and never a double effect, since leases and fences are in logged tables. A row that a dead worker left is taken
-- over when its resource is worked again, so nothing has to sweep here.
create unlogged table @extschema@.lock (
    namespace text not null,
    job_type text not null,
    resource text not null,
    token text not null,
    expires_at timestamptz not null check (isfinite(expires_at)),
    primary key (namespace, job_type, resource)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
