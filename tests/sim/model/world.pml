/* What goes on around the workers: upkeep, time, the application, the lock backend, and the end. */

#define lives_as(w, id) (believes[w] && me(w) == (id))
#define has_lock(w, r) (believes[w] && held[at(w, r)] != unheld && lock[r] == token(me(w), fence_of[at(w, r)]))
#if WORKERS == 1
#define is_believed(id) lives_as(0, id)
#define is_kept(r) has_lock(0, r)
#elif WORKERS == 2
#define is_believed(id) (lives_as(0, id) || lives_as(1, id))
#define is_kept(r) (has_lock(0, r) || has_lock(1, r))
#else
#define is_believed(id) (lives_as(0, id) || lives_as(1, id) || lives_as(2, id))
#define is_kept(r) (has_lock(0, r) || has_lock(1, r) || has_lock(2, r))
#endif

/* reap() ends the sessions in which the handlers of a worker have their transactions. It does not wait for what else upkeep does. */
#ifdef SESSIONS_SPARED
#define may_end_session(id, w) false
#else
#define may_end_session(id, w) (row[id] && expired[id] && is_owner(id) && (handler[w] == completing || handler[w] == hanging) && handler_id[w] == (id) && may_reap)
#endif
#if !defined(REAP_AFTER_FOLD)
#define may_reap true
#elif RESOURCES > 1
#define may_reap !(wake[0] && busy[0] || wake[1] && busy[1])
#else
#define may_reap !(wake[0] && busy[0])
#endif

/* A row expires when its worker has not renewed it; by then the worker believes in its leases no more, since it counts from before it asked. */
#ifdef SPLIT
#define expire_and_reap(id) \
  :: d_step { row[id] && !expired[id] && !is_believed(id) -> expired[id] = 1; printf("the row of %d expires\n", id) } \
  :: d_step { row[id] && expired[id] && may_reap && reap_helps(id) && !locked[id] && reaping == NOBODY -> reap_locks(id, 1); reaping = id; printf("reap of %d begins\n", id) } \
  :: d_step { reaping == id -> reaping = NOBODY; reap(id); printf("reap of %d\n", id); check() }
#else
#define expire_and_reap(id) \
  :: d_step { row[id] && !expired[id] && !is_believed(id) -> expired[id] = 1; printf("the row of %d expires\n", id) } \
  :: d_step { row[id] && expired[id] && may_reap && reap_helps(id) && !locked[id] -> reap(id); printf("reap of %d\n", id); check() }
#endif

#ifdef WAIT_UNTIMED
#define wait_is_over(r) true
#else
#define wait_is_over(r) (lock[r] == FREE)
#endif

/* Of one resource: upkeep folds its wakes, and ends its wait when the lock has run out; locks are lost, or run out when nobody renews them. */
#define upkeep_and_locks(r) \
  :: d_step { wake[r] && !busy[r] -> fold(r); printf("fold %d\n", r) } \
  :: d_step { stripe[r] == waiting && wait_is_over(r) -> give_back(r); printf("the wait of %d is over\n", r) } \
  :: d_step { faults > 0 && lock[r] > OUTSIDER && is_kept(r) -> faults--; lock[r] = FREE; printf("lock %d is lost\n", r) } \
  :: d_step { lock[r] > OUTSIDER && !is_kept(r) -> lock[r] = FREE; printf("lock %d runs out\n", r) }

#define end_sessions(w) \
  :: d_step { may_end_session(handler_id[w] % IDS, w) -> \
       busy[handler_resource[w]] = 0; end_handler(w, again); printf("the session of worker %d's handler is ended\n", w) }

active proctype world() {
end:
  do
  upkeep_and_locks(0)
#if RESOURCES > 1
  upkeep_and_locks(1)
#endif
  end_sessions(0)
#if WORKERS > 1
  end_sessions(1)
#endif
#if WORKERS > 2
  end_sessions(2)
#endif
  expire_and_reap(0)
#if IDS > 1
  expire_and_reap(1)
#endif
#if IDS > 2
  expire_and_reap(2)
#endif
#if IDS > 3
  expire_and_reap(3)
#endif
#if IDS > 4
  expire_and_reap(4)
#endif
#if IDS > 5
  expire_and_reap(5)
#endif
#if IDS > 6
  expire_and_reap(6)
#endif

  /* a unit and its wake, in one transaction */
  :: d_step { enqueued[0] < units(0) -> enqueued[0]++; wake[0] = 1; printf("enqueue 0\n") }

  /* the lock backend is away for a time; an application keeps workers off the first resource, by the same lock */
  :: d_step { LOCKS && faults > 0 && reachable -> faults--; reachable = 0; printf("the lock backend is away\n") }
  :: d_step { !reachable -> reachable = 1; printf("the lock backend is back\n") }
  :: d_step { LOCKS && faults > 0 && reachable && lock[0] == FREE && !outsider_holds ->
       faults--; lock[0] = OUTSIDER; outsider_holds = 1; printf("an outsider locks 0\n") }
  :: d_step { outsider_holds -> outsider_holds = 0; lock[0] = (lock[0] == OUTSIDER -> FREE : lock[0]); printf("the outsider lets go\n") }

  :: timeout -> d_step { check_end(); printf("the end\n") } break
  od
}
