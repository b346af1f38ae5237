/* What Postgres does: each inline is a routine of worker/stripedjob/pool/routines. They are parts of steps: whoever uses one has looked whether
 * the locks that it takes are free.
 *
 * A transaction that begins with the lock of the worker's row, and has no other lock before its end, is one step: what others see of its
 * beginning is that they wait, or skip the row. With -DSPLIT it is two, and so it is where the lock is left away.
 */

#define remove_worker(id) row[id] = 0; expired[id] = 0; working[id] = 0; locked[id] = 0; session[id] = 0; batch[id] = 0
#define give_back(r) stripe[r] = ready; owner[r] = NOBODY; woken[r] = 0

/* lock_worker(), of claim: the row is there, and the session is the one that the caller was given. */
#ifdef NO_SESSION
#define is_live(s) (row[whose[s]])
#else
#define is_live(s) (row[whose[s]] && session[whose[s]] == number[s])
#endif
#ifdef CLAIM_UNLOCKED
#define claim_locks(id, x)
#else
#define claim_locks(id, x) locked[id] = x
#endif

/* may_work(): slots are counted under the lock of the job's row. */
#define taken(id) ((id) < IDS && working[(id) % IDS])
#define slots_taken (taken(0) + taken(1) + taken(2) + taken(3) + taken(4) + taken(5) + taken(6))
#define has_slot(id) ((row[id] && working[id]) || slots_taken < LIMIT)
#ifdef CAP_UNLOCKED
#define count_slots(s, c) had_slot[c] = has_slot(whose[s])
#define may_work(s, c) had_slot[c]
#else
#define count_slots(s, c)
#define may_work(s, c) has_slot(whose[s])
#endif

/* claim(), from there on: leases `some` resources, a set of bits. */
#if RESOURCES > 1
#define are_ready(some) ((((some) & 1) == 0 || stripe[0] == ready) && (((some) & 2) == 0 || stripe[1] == ready))
#define none_ready (stripe[0] != ready && stripe[1] != ready)
#else
#define are_ready(some) (stripe[0] == ready)
#define none_ready (stripe[0] != ready)
#endif

inline lease(s, some) {
  for (i : 0 .. RESOURCES - 1) {
    if
    :: (some) & (1 << i) ->
      fence[i]++;
      assert(fence[i] > issued[i]);     /* a fence never comes again, nor goes back */
      issued[i] = fence[i];
      stripe[i] = leased; owner[i] = whose[s]; woken[i] = 0
    :: else
    fi
  }
  working[whose[s]] = row[whose[s]];
  claim_locks(whose[s], 0);
  i = 0
}

/* release_slot() */
inline lease_nothing(s) {
  working[whose[s]] = row[whose[s]] && is_owner(whose[s]);
  claim_locks(whose[s], 0)
}

/* settle(), up to the worker's row: a batch that came before changes nothing. */
#ifdef NO_BATCH
#define came_before(s) false
#else
#define came_before(s) (row[whose[s]] && batch[whose[s]] >= number[s])
#endif
#ifdef SETTLE_UNLOCKED
#define settle_locks(id, x)
#else
#define settle_locks(id, x) locked[id] = x && row[id]
#endif

/* ...and from there on. It waits for a handler's transaction that has locked a stripe of the batch. */
#ifdef SETTLE_UNFENCED
#define is_valid(s, r) (stripe[r] == leased)
#else
#define is_valid(s, r) (owns(whose[s], r) && fence[r] == fence_of[at(s, r)])
#endif
#define waits_for(s, r) (busy[r] && owns(whose[s], r) && fence[r] == fence_of[at(s, r)])
#if RESOURCES > 1
#define settle_waits(s) (waits_for(s, 0) || waits_for(s, 1))
#else
#define settle_waits(s) waits_for(s, 0)
#endif
#ifdef FENCE_IN_STRIPE
#define remove_stripe(r) stripe[r] = absent; owner[r] = NOBODY; fence[r] = 0
#else
#define remove_stripe(r) stripe[r] = absent; owner[r] = NOBODY
#endif

inline settle(s) {
  for (i : 0 .. RESOURCES - 1) {
    if
    :: fence_of[at(s, i)] == 0
    :: fence_of[at(s, i)] != 0 && is_valid(s, i) ->
      check_lease(whose[s], i, fence_of[at(s, i)]);
      n = (unit_of[at(s, i)] == done[i]);
      done[i] = done[i] + n;
      counted = counted + n + completed[i];
      completed[i] = 0;
      settled[i] = fence[i];
      if
      :: after_of[at(s, i)] == finished && !woken[i] -> remove_stripe(i)
      :: after_of[at(s, i)] == wait -> give_back(i); stripe[i] = waiting
      :: else -> give_back(i)
      fi
    :: else -> assert(!row[whose[s]] || settled[i] != fence_of[at(s, i)])    /* what was recorded is not called lost, while its row is there */
    fi
  }
  batch[whose[s]] = (row[whose[s]] -> number[s] : 0);
  settle_locks(whose[s], 0);
  i = 0; n = 0
}

/* complete(), at the end of the handler's transaction, and its commit. */
#ifdef COMPLETE_UNFENCED
#define may_complete(id, r, f) (stripe[r] == leased)
#else
#define may_complete(id, r, f) (owns(id, r) && fence[r] == (f))
#endif
#ifdef COMPLETE_UNLOCKED
#define lock_stripe(r)
#else
#define lock_stripe(r) busy[r] = 1
#endif

inline commit(w) {
  i = handler_resource[w];
  check_lease(handler_id[w], i, handler_fence[w]);
  if
  :: handler_unit[w] == done[i] -> done[i]++; completed[i]++
  :: else    /* complete() said false, and it was rolled back */
  fi;
  busy[i] = 0;
  i = 0
}

/* resume(): the number of the session grows; leases that the worker does not know of are ready again. It knows those that it holds, and those
 * of a batch without an answer. */
#define is_known(s, r) (fence[r] == fence_of[at(s, r)] || (s) < WORKERS && fence[r] == fence_of[at(SENT((s) % WORKERS), r)])
#ifdef RESUME_KEEPS
#define is_unknown(s, r) false
#else
#define is_unknown(s, r) (owns(whose[s], r) && !is_known(s, r))
#endif
#if RESOURCES > 1
#define resume_waits(s) (busy[0] && is_unknown(s, 0) || busy[1] && is_unknown(s, 1))
#else
#define resume_waits(s) (busy[0] && is_unknown(s, 0))
#endif
#ifdef RESUME_UNLOCKED
#define resume_is_locked(id) false
#else
#define resume_is_locked(id) locked[id]
#endif
#ifdef RESUME_UNNUMBERED
#define is_newer(s) true
#define next_session(s) (session[whose[s]] + 1)
#else
#define is_newer(s) (session[whose[s]] < number[s])
#define next_session(s) number[s]
#endif

inline resume(s) {
  session[whose[s]] = next_session(s);
  expired[whose[s]] = 0;
  for (i : 0 .. RESOURCES - 1) {
    if
    :: is_unknown(s, i) -> give_back(i)
    :: else
    fi
  }
  i = 0
}

/* leave(), which waits for handlers' transactions as well. */
#if RESOURCES > 1
#define leave_waits(id) (locked[id] || busy[0] && owns(id, 0) || busy[1] && owns(id, 1))
#else
#define leave_waits(id) (locked[id] || busy[0] && owns(id, 0))
#endif

inline leave(id) {
  for (i : 0 .. RESOURCES - 1) {
    if
    :: owns(id, i) -> give_back(i)
    :: else
    fi
  }
  remove_worker(id);
  i = 0
}

/* fold_wakes(), of one resource: an insert that meets a row changes it. */
inline fold(r) {
  wake[r] = 0;
  if
  :: stripe[r] == absent -> stripe[r] = ready
#ifndef FOLD_UNWOKEN
  :: stripe[r] == leased -> woken[r] = 1
#endif
  :: else
  fi
}

/* reap(), of one worker: a stripe that a handler's transaction has locked is left for the next time, and the worker's row with it. */
#if RESOURCES > 1
#define reap_helps(id) (!is_owner(id) || owns(id, 0) && !busy[0] || owns(id, 1) && !busy[1])
#else
#define reap_helps(id) (!is_owner(id) || owns(id, 0) && !busy[0])
#endif
#ifdef REAP_UNLOCKED
#define reap_locks(id, x)
#else
#define reap_locks(id, x) locked[id] = x
#endif

inline reap(id) {
  for (i : 0 .. RESOURCES - 1) {
    if
    :: owns(id, i) && !busy[i] -> give_back(i)
    :: else
    fi
  }
  reap_locks(id, 0);
  if
#ifdef REAP_DROPS
  :: true -> remove_worker(id)
#else
  :: !is_owner(id) -> remove_worker(id)
  :: else
#endif
  fi;
  i = 0
}
