package fleet

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The names of what JetStream holds.
const (
	partsStream       = "MLXRANK_PARTS"
	partsSubject      = "mlxrank.parts"
	undeliveredStream = "MLXRANK_UNDELIVERED"
	advisories        = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES." + partsStream
	jobsBucket        = "mlxrank_jobs"
	commitsBucket     = "mlxrank_commits"
	failuresBucket    = "mlxrank_failures"
	workersBucket     = "mlxrank_workers"
	dataBucket        = "mlxrank_data_"
)

// workerTTL is how long a worker counts as present after its last report.
const workerTTL = 35 * time.Second

// streams lists the configurations of the streams that all jobs share. A part can be
// queued once only: JetStream rejects a second message of its subject.
func streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{{
		Name: partsStream, Subjects: []string{partsSubject + ".*.*"},
		Description: "parts of jobs that are not finished",
		Retention:   jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
		MaxMsgs: 4 << 20, MaxMsgSize: 16 << 10,
	}, {
		Name: undeliveredStream, Subjects: []string{advisories + ".*"},
		Description: "parts that were delivered too often",
		Storage:     jetstream.FileStorage, Discard: jetstream.DiscardOld, MaxMsgs: 1 << 20, MaxAge: 90 * 24 * time.Hour,
	}}
}

// buckets lists the configurations of the key-value buckets that all jobs share.
func buckets() []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{
		{Bucket: jobsBucket, Description: "jobs", Storage: jetstream.FileStorage, MaxValueSize: 256 << 10},
		{Bucket: commitsBucket, Description: "committed results of parts", Storage: jetstream.FileStorage, MaxValueSize: 16 << 10},
		{Bucket: failuresBucket, Description: "failures of parts", Storage: jetstream.FileStorage, MaxValueSize: 16 << 10},
		{Bucket: workersBucket, Description: "workers at present", Storage: jetstream.MemoryStorage, MaxValueSize: 16 << 10, TTL: workerTTL},
	}
}

func subjectOf(job string, part int) string {
	return fmt.Sprintf("%s.%s.%06d", partsSubject, job, part)
}

func keyOf(job string, part int) string { return fmt.Sprintf("%s.%06d", job, part) }
