package fleet

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startCluster starts three NATS servers with routes to one another.
func startCluster(t testing.TB) []*nats.Server {
	t.Helper()
	var routes []*url.URL
	for range 3 {
		routes = append(routes, &url.URL{Scheme: "nats", Host: freeAddress(t)})
	}
	servers := make([]*nats.Server, len(routes))
	for i, route := range routes {
		port := 0
		if _, err := fmt.Sscan(route.Port(), &port); err != nil {
			t.Fatal(err)
		}
		options := &nats.Options{
			ServerName: fmt.Sprint("server-", i), JetStream: true, StoreDir: t.TempDir(), Routes: routes,
			Host: "127.0.0.1", Port: nats.RANDOM_PORT, NoSigs: true,
			Cluster: nats.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
		}
		server, err := nats.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		server.Start() // it is ready when the others are there
		t.Cleanup(func() {
			server.Shutdown()
			server.WaitForShutdown()
		})
		servers[i] = server
	}
	waitFor(t, "the cluster to have a leader", func() bool {
		leaders := 0
		for _, server := range servers {
			if !server.ReadyForConnections(time.Second) || len(server.JetStreamClusterPeers()) < len(servers) && server.JetStreamIsLeader() {
				return false
			}
			if server.JetStreamIsLeader() {
				leaders++
			}
		}
		return leaders == 1
	})
	return servers
}

// TestCluster has a NATS cluster in which the queue was made with three replicas. The
// server that leads the queue dies in the middle of a job.
func TestCluster(t *testing.T) {
	servers := startCluster(t)
	addresses := servers[0].ClientURL() + "," + servers[1].ClientURL() + "," + servers[2].ClientURL()
	admin := connectTo(t, servers[0].ClientURL())
	queue := streams()[0]
	queue.Replicas = 3
	if _, err := admin.CreateStream(testContext(t), queue); err != nil {
		t.Fatal(err)
	}
	f := connect(t, addresses)
	for i := range 3 {
		startWorker(t, addresses, WorkerConfig{Name: fmt.Sprint("worker ", i), Open: open(fake{delay: 5 * time.Millisecond})})
	}
	job := submit(t, f, Job{AckWait: 5 * time.Second}, 30, 20)
	for _, name := range []string{partsStream, undeliveredStream, "KV_" + jobsBucket, "KV_" + commitsBucket, "KV_" + failuresBucket, "KV_" + workersBucket, "OBJ_" + dataBucket + job.ID} {
		stream, err := f.js.Stream(testContext(t), name)
		if err != nil {
			t.Fatal(err)
		}
		if replicas := stream.CachedInfo().Config.Replicas; replicas != 3 {
			t.Errorf("stream %s has %d replicas, expected 3", name, replicas)
		}
	}
	waitFor(t, "three commits", func() bool {
		commits, err := f.commitsOf(testContext(t), job.Job)
		return err == nil && len(commits) >= 3
	})
	killed := false
	for _, server := range servers {
		if server.JetStreamIsStreamLeader(nats.DEFAULT_GLOBAL_ACCOUNT, partsStream) {
			server.Shutdown()
			killed = true
			break // another one leads it soon
		}
	}
	if !killed {
		t.Fatal("no server leads the queue")
	}
	job.check(t, f)
	if err := f.Finish(testContext(t), job.Job); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, f, job)
}

// connectTo returns an administrator's connection.
func connectTo(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	conn, err := client.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
