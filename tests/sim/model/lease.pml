/* The lease protocol, as a model for Spin. docs/model.md says what it stands for, what it leaves out, and how to run it.
 *
 * Every step is a transaction, or what a process does between two of them; in which order they come is up to Spin, which tries every one. A run
 * has at most FAULTS faults, of whatever kinds and at whatever moments. -D<GUARD> removes a guard.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef RESOURCES
#define RESOURCES 2
#endif
#ifndef UNITS
#define UNITS 1       /* of the first resource, the second of them enqueued at any time; every other resource has one */
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef LIMIT
#define LIMIT 2       /* schedule_limit: how many workers may hold leases */
#endif
#ifndef HANDLERS
#define HANDLERS 1    /* whether handlers have transactions of their own */
#endif
#ifndef LOCKS
#define LOCKS 0       /* whether there is a lock backend */
#endif

#if defined(CLAIM_UNLOCKED) || defined(SETTLE_UNLOCKED) || defined(CAP_UNLOCKED) || defined(RESUME_UNLOCKED) || defined(REAP_UNLOCKED) || defined(ONE_SNAPSHOT)
#define SPLIT         /* transactions that would otherwise be one step, see postgres.pml */
#endif

#define IDS (WORKERS + FAULTS)    /* a worker registers again only after a fault */
#define NOBODY IDS
#define NOTHING 3                 /* no unit */
#define FENCES 16                 /* no run needs as many: that would be a livelock */
#define FREE 0                    /* a lock that nobody has */
#define OUTSIDER 1                /* ...and one that an application has */
#define token(id, f) (2 + (id) * FENCES + (f))

mtype:stripe = {absent, ready, leased, waiting};
mtype:lease = {unheld, running, ended};
mtype:call = {none, claim_sent, claiming, settle_sent, settling, resume_sent, complete_sent, completing, hanging};
mtype:after = {finished, again, wait};

hidden byte i, j, n;    /* for loops within a step: no part of the state */
byte faults = FAULTS;

/* Postgres. The worker's row; `locked`: by a transaction that is split in two. */
bit row[IDS], expired[IDS], working[IDS], locked[IDS];
byte session[IDS], batch[IDS], next_id;
/* The stripe; `busy`: locked by a handler's transaction. The last fence of each resource: what one sequence for all gives as well. */
mtype:stripe stripe[RESOURCES] = ready;
byte owner[RESOURCES] = NOBODY, fence[RESOURCES], completed[RESOURCES];
bit woken[RESOURCES], busy[RESOURCES], wake[RESOURCES];
/* Units are worked in their order: the first `done` of those `enqueued` are. `counted`: what the counters say. */
byte enqueued[RESOURCES] = 1, done[RESOURCES], counted;
byte reaping = NOBODY;

/* Three sets of leases for each worker: those that it HELD, those of the batch that it SENT and has no answer to, and those of a call of an
 * OLD connection. Of each: whose it is, the number of its session or batch, and of each resource the fence (0: it is not in it), the unit to
 * be recorded, and what becomes of the resource after that.
 */
#define HELD(w) (w)
#define SENT(w) (WORKERS + (w))
#define OLD(w) (2 * WORKERS + (w))
#define at(s, r) ((s) * RESOURCES + (r))
byte whose[3 * WORKERS] = NOBODY, number[3 * WORKERS];
byte fence_of[3 * WORKERS * RESOURCES], unit_of[3 * WORKERS * RESOURCES];
mtype:after after_of[3 * WORKERS * RESOURCES];
#define me(w) whose[HELD(w)]
#define sessions(w) number[HELD(w)]

/* A worker's process; `call`: what it waits for. `old`: a call of a connection that broke, which begins, or commits, when the worker may have
 * come back over another one long ago. */
bit up[WORKERS], connected[WORKERS], believes[WORKERS];
byte batches[WORKERS];
mtype:call call[WORKERS] = none, old[WORKERS] = none;
mtype:lease held[WORKERS * RESOURCES] = unheld;

/* A handler's own transaction, which may outlive its process as well; `hanging`: its process was cut off or stopped, and its session lives. */
mtype:call handler[WORKERS] = none;
byte handler_id[WORKERS] = NOBODY, handler_resource[WORKERS], handler_fence[WORKERS], handler_unit[WORKERS];

/* The lock backend: the token in each lock. */
bit reachable = 1;
byte lock[RESOURCES];

/* What only the properties look at. */
bit outsider_holds;
byte issued[RESOURCES], settled[RESOURCES];

#ifdef CAP_UNLOCKED
bit had_slot[2 * WORKERS];
#endif
#ifdef ONE_SNAPSHOT
byte seen[WORKERS * RESOURCES];
#endif

#include "properties.pml"
#include "postgres.pml"
#include "client.pml"
#include "worker.pml"
#include "world.pml"
