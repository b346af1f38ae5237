/* What must hold after every step, and where a run ends. */

#define owns(id, r) (stripe[r] == leased && owner[r] == (id))
#if RESOURCES > 1
#define is_owner(id) (owns(id, 0) || owns(id, 1))
#else
#define is_owner(id) owns(id, 0)
#endif

/* The executor stops at its deadline, whatever its main process does. */
#ifdef NO_DEADLINE
#define works(w, r) (held[at(w, r)] == running)
#else
#define works(w, r) (held[at(w, r)] == running && believes[w])
#endif

inline check() {
  for (i : 0 .. RESOURCES - 1) {
    n = 0;
    for (j : 0 .. WORKERS - 1) { n = n + works(j, i) }
    assert(n <= 1);                                  /* two workers never work on one resource */
    assert(stripe[i] != leased || row[owner[i]]);    /* no lease of a worker that has no row */
    assert(fence[i] < FENCES);                       /* nothing is leased for ever */
  }
  n = 0;
  for (i : 0 .. IDS - 1) { n = n + is_owner(i) }
  assert(n <= LIMIT);                                /* the limit holds */
  i = 0; j = 0; n = 0
}

inline check_lease(id, r, f) {
  assert(owns(id, r) && fence[r] == (f) && row[id])    /* nothing is recorded under a lease that was lost */
}

#define units(r) ((r) == 0 -> UNITS : 1)

inline check_end() {
  n = 0;
  for (i : 0 .. RESOURCES - 1) {
    assert(done[i] == units(i));      /* no unit is stranded, */
    assert(stripe[i] == absent);      /* no resource, and no lease, */
    n = n + done[i]
  }
  assert(counted == n);               /* and each unit is counted once */
  i = 0; n = 0
}
