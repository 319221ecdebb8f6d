package mlx

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestThreadKeepsToOneOSThread(t *testing.T) {
	th := newThread()
	defer th.close()
	want := 0
	for range 100 {
		runtime.Gosched()
		if err := th.do(func() {
			got := osThread()
			if want == 0 {
				want = got
			}
			if got != want {
				t.Errorf("ran on OS thread %d, before on %d", got, want)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestThreadRunsOneJobAtATime(t *testing.T) {
	th := newThread()
	defer th.close()
	var running, ran int // used only on th, which the race detector checks
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 64 {
				err := th.do(func() {
					running++
					if running != 1 {
						t.Errorf("%d jobs at once", running)
					}
					ran++
					running--
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := th.do(func() {
		if ran != 16*64 {
			t.Errorf("%d jobs ran, want %d", ran, 16*64)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestThreadSurvivesAPanic(t *testing.T) {
	th := newThread()
	defer th.close()
	err := th.do(func() { panicHere() })
	if err == nil || !strings.Contains(err.Error(), "went wrong") || !strings.Contains(err.Error(), "panicHere") {
		t.Errorf("got error %v, want the panic and its stack", err)
	}
	if err := th.do(func() {}); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}

func panicHere() { panic("went wrong") }

func TestClosedThreadRefuses(t *testing.T) {
	th := newThread()
	th.close()
	th.close()
	for range 100 { // close races with the thread's own reads
		if err := th.do(func() { t.Error("ran") }); !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v, want ErrClosed", err)
		}
	}
}

func TestCloseDoesNotWait(t *testing.T) {
	th := newThread()
	started, release := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- th.do(func() { close(started); <-release })
	}()
	<-started
	th.close()
	select {
	case err := <-result:
		t.Fatalf("the running job was aborted: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	close(release)
	if err := <-result; err != nil {
		t.Errorf("the running job: %v", err)
	}
}
