/* A worker: its calls, those of its earlier connection, its handlers, and what may befall it. */

/* What may be asked for at this moment. poll() says whether there is anything to claim; the lock backend is asked first, where it was away. */
#define wants_claim(w) (is_free(w) && believes[w] && reachable && !none_ready && (working[me(w)] || slots_taken < LIMIT))
#define sends_claim(w) ((wants_claim(w) || call[w] == claim_sent) && !locked[me(w)])
#define is_done(w, r) (held[at(w, r)] == ended || held[at(w, r)] == running && !in_handler(w, r))
#if RESOURCES > 1
#define are_done(w, some) ((((some) & 1) == 0 || is_done(w, 0)) && (((some) & 2) == 0 || is_done(w, 1)))
#else
#define are_done(w, some) is_done(w, 0)
#endif
#define sends_batch(w, some) (is_free(w) && !has_batch(w) && are_done(w, some) && !locked[me(w)])
#define sends_again(w) (is_free(w) && has_batch(w) && !locked[whose[SENT(w)]])
#define may_break(w) (faults > 0 && up[w] && old[w] == none)

#ifdef SPLIT
#define claims(w) (call[w] == claiming)
#define old_claims(w) (old[w] == claiming)
#define settles(w) (call[w] == settling)
#define old_settles(w) (old[w] == settling)
#else
#define claims(w) (sends_claim(w) && is_live(HELD(w)))
#define old_claims(w) (old[w] == claim_sent && !locked[whose[OLD(w)]] && is_live(OLD(w)))
#define settles(w) (sends_again(w) && !came_before(SENT(w)))
#define old_settles(w) (old[w] == settle_sent && !locked[whose[OLD(w)]] && !came_before(OLD(w)))
#endif

/* Workers are all alike, and so are resources where nothing is done to one alone: of runs that differ in their names only, one is tried, that in
 * which the first to register is worker 0, and the first to be leased is resource 0.
 */
#define may_register(w) (me(w) == NOBODY && next_id >= w)
#if RESOURCES > 1 && UNITS == 1 && !LOCKS
#define may_lease(some) (are_ready(some) && (some != 2 || issued[0] > 0))
#else
#define may_lease(some) are_ready(some)
#endif

/* Steps for `some` resources. */
#define claim_some(w, some) \
  :: d_step { claims(w) && may_work(HELD(w), w) && may_lease(some) -> \
       call[w] = none; lease(HELD(w), some); take(w, some); printf("worker %d: claim leases %d\n", w, some); check() } \
  :: d_step { old_claims(w) && may_work(OLD(w), WORKERS + w) && may_lease(some) -> \
       lease(OLD(w), some); forget_old(w); printf("worker %d, earlier session: claim leases %d\n", w, some); check() }

#ifdef SPLIT
#define settle_some(w, some) \
  :: d_step { sends_batch(w, some) -> \
       make_batch(w, some); settle_locks(me(w), 1); call[w] = settling; printf("worker %d: settle of %d begins\n", w, some) }
#else
#define settle_some(w, some) \
  :: d_step { sends_batch(w, some) && !settle_would_wait(w, some) -> \
       make_batch(w, some); settle(SENT(w)); forget(SENT(w)); printf("worker %d: settle of %d\n", w, some); check() }
#endif
#define blocks(w, r) (busy[r] && owns(me(w), r) && fence[r] == fence_of[at(w, r)])
#if RESOURCES > 1
#define settle_would_wait(w, some) (((some) & 1) && blocks(w, 0) || ((some) & 2) && blocks(w, 1))
#else
#define settle_would_wait(w, some) blocks(w, 0)
#endif

#define break_settle(w, some) \
  :: d_step { may_break(w) && sends_batch(w, some) -> \
       faults--; make_batch(w, some); leave_behind(w, settle_sent); printf("worker %d: its connection breaks, settle of %d sent\n", w, some) }

/* Steps for one resource. */
#define handle(w, r) \
  :: d_step { HANDLERS && up[w] && held[at(w, r)] == running && handler[w] == none && !busy[r] -> \
       begin_handler(w, r); complete(w); printf("worker %d: complete in %d\n", w, r) } \
  :: d_step { faults > 0 && up[w] && held[at(w, r)] == running -> \
       faults--; end_lease(w, r, NOTHING, again); printf("worker %d: a unit of %d fails\n", w, r) } \
  :: d_step { faults > 0 && HANDLERS && up[w] && held[at(w, r)] == running && handler[w] == none -> \
       faults--; begin_handler(w, r); end_lease(w, r, NOTHING, again); printf("worker %d: a unit of %d fails, its complete is sent\n", w, r) }

#define w _pid

active [WORKERS] proctype worker() {
end:
  do
  /* register: a process that starts, or was considered dead */
  :: d_step { may_register(w) -> register(w); printf("worker %d registers as %d\n", w, me(w)); check() }

  /* claim */
  claim_some(w, 1)
#if RESOURCES > 1
  claim_some(w, 2)
  claim_some(w, 3)
#endif
  :: d_step { claims(w) && (none_ready || !may_work(HELD(w), w)) -> call[w] = none; lease_nothing(HELD(w)) }
  :: d_step { sends_claim(w) && !row[me(w)] -> lose(w); printf("worker %d: claim refused, lost\n", w) }
  :: d_step { sends_claim(w) && row[me(w)] && !is_live(HELD(w)) -> call[w] = none; connected[w] = 0; printf("worker %d: claim refused\n", w) }

  /* settle; a batch without an answer comes again, before any other */
  settle_some(w, 1)
#if RESOURCES > 1
  settle_some(w, 2)
  settle_some(w, 3)
#endif
  :: d_step { settles(w) && !settle_waits(SENT(w)) ->
       call[w] = none; settle(SENT(w)); forget(SENT(w)); printf("worker %d: settle again\n", w); check() }
  :: d_step { sends_again(w) && came_before(SENT(w)) -> forget(SENT(w)); printf("worker %d: settle again, which came before\n", w) }

  /* renew, once time has passed */
  :: d_step { is_free(w) && !believes[w] && !locked[me(w)] && row[me(w)] ->
       expired[me(w)] = 0; believes[w] = 1;
#ifndef RENEW_SILENT
       drop_lost(w);
#endif
       printf("worker %d renews\n", w); check() }
  :: d_step { is_free(w) && !believes[w] && !row[me(w)] -> lose(w); printf("worker %d: renew refused, lost\n", w) }

  /* poll: a worker without a lease gives its slot back */
  :: d_step { is_free(w) && holds_nothing(w) && !has_batch(w) && working[me(w)] && !is_owner(me(w)) && !locked[me(w)] ->
       working[me(w)] = 0; printf("worker %d gives its slot back\n", w) }

  /* resume, over a new connection */
  :: d_step { up[w] && !connected[w] && me(w) != NOBODY && row[me(w)] && !resume_is_locked(me(w)) && !resume_waits(HELD(w)) ->
       sessions(w)++; resume(HELD(w)); sessions(w) = session[me(w)]; drop_lost(w); connected[w] = 1;
       printf("worker %d resumes\n", w); check() }
  :: d_step { up[w] && !connected[w] && me(w) != NOBODY && !row[me(w)] -> lose(w); printf("worker %d: resume refused, lost\n", w) }

  /* leave, with nothing more to do */
  :: d_step { faults > 0 && is_free(w) && holds_nothing(w) && !has_batch(w) && row[me(w)] && !leave_waits(me(w)) ->
       faults--; leave(me(w)); stop(w); printf("worker %d leaves\n", w); check() }

  /* the handlers, whose transactions do not depend on the process that began them */
  handle(w, 0)
#if RESOURCES > 1
  handle(w, 1)
#endif
  :: d_step { handler[w] == complete_sent && !busy[handler_resource[w]] -> complete(w); printf("worker %d: complete, late\n", w) }
  :: d_step { handler[w] == completing ->
       commit(w); end_handler(w, after_of[at(w, i)]); printf("worker %d: its handler's transaction commits\n", w); check() }
  :: d_step { handler[w] == completing && !is_awaited(w) ->
       busy[handler_resource[w]] = 0; end_handler(w, again); printf("worker %d: its handler's transaction is rolled back\n", w) }

  :: d_step { faults > 0 && handler[w] == completing && up[w] && call[w] == none ->
       faults--; stop(w); handler[w] = hanging; printf("worker %d is cut off, its handler's transaction stays open\n", w) }

  /* it is killed; it is stopped for so long that its lease may end, also just before a claim; its connection breaks */
  :: d_step { faults > 0 && up[w] && me(w) != NOBODY && call[w] == none -> faults--; stop(w); printf("worker %d is killed\n", w) }
  :: d_step { may_break(w) && call[w] != none -> faults--; leave_behind(w, call[w]); stop(w); printf("worker %d is killed in a call\n", w) }
  :: d_step { faults > 0 && up[w] && believes[w] -> faults--; believes[w] = 0; printf("worker %d is stopped\n", w) }
  :: d_step { faults > 0 && wants_claim(w) ->
       faults--; believes[w] = 0; call[w] = claim_sent; printf("worker %d is stopped, claim sent\n", w) }
  :: d_step { faults > 0 && is_free(w) -> faults--; connected[w] = 0; printf("worker %d: its connection breaks\n", w) }
  :: d_step { may_break(w) && call[w] != none -> faults--; leave_behind(w, call[w]); printf("worker %d: its connection breaks in a call\n", w) }
  :: d_step { may_break(w) && is_free(w) -> faults--; leave_behind(w, claim_sent); printf("worker %d: its connection breaks, claim sent\n", w) }
  break_settle(w, 1)
#if RESOURCES > 1
  break_settle(w, 2)
  break_settle(w, 3)
#endif
  :: d_step { may_break(w) && sends_again(w) ->
       faults--; leave_behind(w, settle_sent); printf("worker %d: its connection breaks, settle sent again\n", w) }
  :: d_step { may_break(w) && !connected[w] && me(w) != NOBODY ->
       faults--; sessions(w)++; leave_behind(w, resume_sent); printf("worker %d: its connection breaks, resume sent\n", w) }

  /* what an earlier connection left: it happens, or it does not */
  :: d_step { old_claims(w) && (none_ready || !may_work(OLD(w), WORKERS + w)) -> lease_nothing(OLD(w)); forget_old(w) }
  :: d_step { old[w] == claim_sent && !locked[whose[OLD(w)]] && !is_live(OLD(w)) -> forget_old(w); printf("worker %d, earlier session: claim refused\n", w) }
  :: d_step { old_settles(w) && !settle_waits(OLD(w)) ->
       settle(OLD(w)); forget_old(w); printf("worker %d, earlier session: settle\n", w); check() }
  :: d_step { old[w] == settle_sent && came_before(OLD(w)) -> forget_old(w); printf("worker %d, earlier session: settle, which came before\n", w) }
  :: d_step { old[w] == resume_sent && (!row[whose[OLD(w)]] || !is_newer(OLD(w))) -> forget_old(w); printf("worker %d, earlier session: resume refused\n", w) }
  :: d_step { old[w] == resume_sent && row[whose[OLD(w)]] && is_newer(OLD(w)) && !resume_is_locked(whose[OLD(w)]) && !resume_waits(OLD(w)) ->
       resume(OLD(w)); forget_old(w); printf("worker %d, earlier session: resume\n", w); check() }

#ifdef SPLIT
  :: d_step { sends_claim(w) && is_live(HELD(w)) ->
       claim_locks(me(w), 1); count_slots(HELD(w), w); look(w); call[w] = claiming; printf("worker %d: claim begins\n", w) }
  :: d_step { sends_again(w) && !came_before(SENT(w)) ->
       settle_locks(whose[SENT(w)], 1); call[w] = settling; printf("worker %d: settle begins again\n", w) }
  :: d_step { old[w] == claim_sent && !locked[whose[OLD(w)]] && is_live(OLD(w)) ->
       claim_locks(whose[OLD(w)], 1); count_slots(OLD(w), WORKERS + w); old[w] = claiming; printf("worker %d, earlier session: claim begins\n", w) }
  :: d_step { old[w] == settle_sent && !locked[whose[OLD(w)]] && !came_before(OLD(w)) ->
       settle_locks(whose[OLD(w)], 1); old[w] = settling; printf("worker %d, earlier session: settle begins\n", w) }
#endif
  od
}

#undef w
