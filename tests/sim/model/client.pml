/* What a worker's process does by itself, between its calls. */

#define is_free(w) (up[w] && connected[w] && call[w] == none && me(w) != NOBODY)
#define has_batch(w) (number[SENT(w)] != 0)
#if RESOURCES > 1
#define holds_nothing(w) (held[at(w, 0)] == unheld && held[at(w, 1)] == unheld)
#else
#define holds_nothing(w) (held[at(w, 0)] == unheld)
#endif

#define drop(w, r) held[at(w, r)] = unheld; fence_of[at(w, r)] = 0; unit_of[at(w, r)] = 0; after_of[at(w, r)] = 0

inline end_lease(w, r, unit, then) {
  held[at(w, r)] = ended; unit_of[at(w, r)] = unit; after_of[at(w, r)] = then
}

inline forget(s) {
  whose[s] = NOBODY; number[s] = 0;
  for (i : 0 .. RESOURCES - 1) { fence_of[at(s, i)] = 0; unit_of[at(s, i)] = 0; after_of[at(s, i)] = 0 }
  i = 0
}

/* The answer to a claim: each resource is locked in the lock backend, and given to the executor. */
inline take(w, some) {
  for (j : 0 .. RESOURCES - 1) {
    if
    :: (some) & (1 << j) ->
      fence_of[at(w, j)] = fence[j];
      if
      :: !reachable -> end_lease(w, j, NOTHING, again)
      :: reachable && lock[j] == FREE ->
        assert(j > 0 || !outsider_holds);     /* no lock is taken that an outsider holds */
        lock[j] = (LOCKS -> token(me(w), fence[j]) : FREE);
        start(w, j)
      :: else -> end_lease(w, j, NOTHING, wait)
      fi
    :: else
    fi
  }
  j = 0
}

/* claim() reads the units in a statement of its own, once it has the stripes. */
#ifdef ONE_SNAPSHOT
#define first(w, r) (seen[at(w, r)] & 3)
#define last(w, r) (seen[at(w, r)] >> 2)
#define look(w) for (i : 0 .. RESOURCES - 1) { seen[at(w, i)] = done[i] | (enqueued[i] << 2) } i = 0
#else
#define first(w, r) done[r]
#define last(w, r) enqueued[r]
#define look(w)
#endif

inline start(w, r) {
  if
  :: first(w, r) == last(w, r) -> end_lease(w, r, NOTHING, finished)
  :: else ->
    assert(first(w, r) == done[r]);           /* no unit is handed out that was recorded */
    held[at(w, r)] = running;
    unit_of[at(w, r)] = first(w, r);
    after_of[at(w, r)] = (first(w, r) + 1 < last(w, r) -> again : finished)
  fi
}

/* A batch: what has ended, and what is done now, of `some` resources. Their locks are given back first, each under its own token. */
inline make_batch(w, some) {
  batches[w]++; number[SENT(w)] = batches[w]; whose[SENT(w)] = me(w);
  for (i : 0 .. RESOURCES - 1) {
    if
    :: (some) & (1 << i) ->
      fence_of[at(SENT(w), i)] = fence_of[at(w, i)];
      unit_of[at(SENT(w), i)] = unit_of[at(w, i)];
      after_of[at(SENT(w), i)] = after_of[at(w, i)];
#ifdef RELEASE_UNCHECKED
      lock[i] = (reachable -> FREE : lock[i]);
#else
      lock[i] = (reachable && lock[i] == token(me(w), fence_of[at(w, i)]) -> FREE : lock[i]);
#endif
      drop(w, i)
    :: else
    fi
  }
  i = 0
}

/* The answer to renew() and resume(): leases that are the worker's no more. */
inline drop_lost(w) {
  for (i : 0 .. RESOURCES - 1) {
    if
    :: held[at(w, i)] != unheld && !(owns(me(w), i) && fence[i] == fence_of[at(w, i)]) -> drop(w, i)
    :: else
    fi
  }
  i = 0
}

/* It was considered dead, and what it held has passed to others. A batch is sent all the same, to be counted as stale. */
inline lose(w) {
  whose[HELD(w)] = NOBODY; number[HELD(w)] = 0; believes[w] = 0; connected[w] = 0; call[w] = none;
#ifndef TASKS_KEPT
  for (i : 0 .. RESOURCES - 1) { drop(w, i) }
#endif
  i = 0
}

/* The process ends, with all that it knew. */
inline stop(w) {
  lose(w);
  up[w] = 0; batches[w] = 0;
  for (i : 0 .. RESOURCES - 1) { drop(w, i) }
  forget(SENT(w))
}

inline register(w) {
  assert(next_id < IDS);
  me(w) = next_id; row[next_id] = 1; next_id++;
  up[w] = 1; connected[w] = 1; believes[w] = 1
}

/* Its connection breaks in the middle of a call, or when that has been sent: it may still happen, later. */
inline leave_behind(w, kind) {
  old[w] = kind; call[w] = none; connected[w] = 0;    /* in this order: `kind` may be call[w] */
  whose[OLD(w)] = (old[w] == settle_sent || old[w] == settling -> whose[SENT(w)] : me(w));
  number[OLD(w)] = (old[w] == settle_sent || old[w] == settling -> number[SENT(w)] : sessions(w));
  for (i : 0 .. RESOURCES - 1) {
    if
    :: old[w] == settle_sent || old[w] == settling ->
      fence_of[at(OLD(w), i)] = fence_of[at(SENT(w), i)];
      unit_of[at(OLD(w), i)] = unit_of[at(SENT(w), i)];
      after_of[at(OLD(w), i)] = after_of[at(SENT(w), i)]
    :: old[w] == resume_sent ->    /* a resource that is in both was leased again since that batch */
      fence_of[at(OLD(w), i)] = (held[at(w, i)] != unheld -> fence_of[at(w, i)] : fence_of[at(SENT(w), i)])
    :: else
    fi
  }
  i = 0
}

inline forget_old(w) {
  old[w] = none; forget(OLD(w))
}

/* The handler's transaction; whoever waits for it hears of its end. */
#define in_handler(w, r) (handler[w] != none && handler_id[w] == me(w) && handler_resource[w] == (r) && handler_fence[w] == fence_of[at(w, r)])
#define is_awaited(w) (held[at(w, handler_resource[w])] == running && in_handler(w, handler_resource[w]))

inline begin_handler(w, r) {
  handler[w] = complete_sent; handler_id[w] = me(w); handler_resource[w] = r;
  handler_fence[w] = fence_of[at(w, r)]; handler_unit[w] = unit_of[at(w, r)]
}

inline complete(w) {
  if
  :: may_complete(handler_id[w], handler_resource[w], handler_fence[w]) -> lock_stripe(handler_resource[w]); handler[w] = completing
  :: else -> end_handler(w, again)
  fi
}

inline end_handler(w, then) {
  i = handler_resource[w];
  if
  :: is_awaited(w) -> end_lease(w, i, NOTHING, then)
  :: else
  fi;
  handler[w] = none; handler_id[w] = NOBODY; handler_resource[w] = 0; handler_fence[w] = 0; handler_unit[w] = 0;
  i = 0
}
