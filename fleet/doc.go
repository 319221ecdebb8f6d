// Package fleet spreads the scoring of a job over machines, through NATS JetStream.
//
// A submitter cuts its input into parts, uploads the pairs of each part to a store, and
// publishes a message that describes the part. Workers fetch messages one at a time,
// score the pairs, write the result to the store and commit it. The submitter reads the
// results in the order of the input. Queues, leases and durability are JetStream's.
//
// # What JetStream holds
//
//	MLXRANK_PARTS        work queue of parts that are not finished; one message a part,
//	                     one durable consumer a job
//	MLXRANK_UNDELIVERED  advisories of parts that were delivered too often
//	mlxrank_jobs         jobs, by id
//	mlxrank_commits      the committed result of a part, by JOB.PART
//	mlxrank_failures     the last failure of a part, by JOB.PART
//	mlxrank_workers      what each worker does now; entries expire
//	mlxrank_data_JOB     object store of a job: pairs, results, manifest
//
// Messages and keys carry no texts.
//
// # How a part is finished exactly once
//
// A worker writes its result under a name of its own and then creates the part's key in
// mlxrank_commits. JetStream creates a key once, so of several workers that finish a
// part one commits, and the others remove what they wrote. A message may be delivered
// again at any time: a worker that finds the key acknowledges the message and goes on.
package fleet
