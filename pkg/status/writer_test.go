package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/report"
)

// fakeServer has the statuses of objects, and counts the writes.
type fakeServer struct {
	mu      sync.Mutex
	fail    error
	has     map[string]Desired
	writes  []string // NAME GENERATION
	desired []Desired
	unknown bool
	looks   int
	changed chan struct{}
}

func newFakeServer() *fakeServer {
	return &fakeServer{has: map[string]Desired{}, changed: make(chan struct{})}
}

func (s *fakeServer) ApplyStatus(_ context.Context, d Desired) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return "", s.fail
	}
	s.has[d.Name] = d
	s.writes = append(s.writes, fmt.Sprint(d.Name, " ", d.Generation))
	return "", nil
}

func (s *fakeServer) Desired(Previous) ([]Desired, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return s.desired, !s.unknown
}

// looked is how often it was looked since the last time.
func (s *fakeServer) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.looks
	s.looks = 0
	return n
}

func (s *fakeServer) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// want makes these the desired statuses.
func (s *fakeServer) want(all ...Desired) {
	s.set(func() { s.desired = all })
}

func (s *fakeServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// policyAt is the state of a policy for one generation, with what it has now.
func policyAt(name string, generation int64, live any) Desired {
	st := meshv1a1.PolicyStatus{ObservedGeneration: generation, Conditions: []metav1.Condition{
		{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: then}}}
	return Desired{
		Object: report.Object{Kind: "TrafficPolicy", Namespace: "shop", Name: name}, UID: "u1",
		Generation: generation, Conditions: st.Conditions, Written: st, Live: live,
	}
}

// run has a Writer work in a bubble of synthetic time.
func run(t *testing.T, test func(t *testing.T, s *fakeServer)) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewWriter(WriterConfig{Applier: s, Desired: s.Desired, Changed: s.Changed, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
		}()
		synctest.Wait()
		time.Sleep(time.Minute) // of synthetic time: the Writer waits
		test(t, s)
		cancel()
		<-done
	})
}

// after lets synthetic time pass and wants exactly these writes since the last time.
func (s *fakeServer) after(t *testing.T, d time.Duration, want ...string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if fmt.Sprint(s.writes) != fmt.Sprint(want) {
		t.Errorf("written %v, want %v", s.writes, want)
	}
	s.writes = nil
}

func TestFirstSoonAndThenTheNewest(t *testing.T) {
	run(t, func(t *testing.T, s *fakeServer) {
		s.want(policyAt("a", 1, nil))
		s.after(t, settle, "a 1")
		for g := int64(2); g < 9; g++ {
			s.want(policyAt("a", g, nil))
			s.after(t, 40*time.Millisecond)
		}
		s.after(t, DefaultPace, "a 8")
		s.after(t, time.Hour)
	})
}

// TestWhatSettlesAtOnceIsWrittenOnce: a policy that is pending for as long as
// proxies take to acknowledge it is not written twice.
func TestWhatSettlesAtOnceIsWrittenOnce(t *testing.T) {
	run(t, func(t *testing.T, s *fakeServer) {
		s.want(policyAt("a", 1, nil))
		s.after(t, settle/2)
		s.want(policyAt("a", 2, nil))
		s.after(t, time.Hour, "a 2")
	})
}

// TestWhatChangesNoStatusIsSeldomLookedAt: endpoints that come and go announce
// changes on and on. What is to be written is written within a second all the same.
func TestWhatChangesNoStatusIsSeldomLookedAt(t *testing.T) {
	run(t, func(t *testing.T, s *fakeServer) {
		churn := func(d time.Duration) {
			for range d / (10 * time.Millisecond) {
				s.set(func() {})
				time.Sleep(10 * time.Millisecond)
			}
		}
		s.looked()
		churn(20 * time.Second)
		if looks := s.looked(); looks > 25 {
			t.Errorf("%d looks in 20 s, want about one a second", looks)
		}
		s.want(policyAt("a", 1, nil))
		churn(longestLook + settle)
		s.after(t, 0, "a 1")
		time.Sleep(time.Hour)
		s.looked()
		s.want(policyAt("a", 1, policyAt("a", 1, nil).Written)) // nothing to write, but it was quiet before
		churn(time.Second)
		if looks := s.looked(); looks < 3 {
			t.Errorf("%d looks in the second after a quiet hour, want some", looks)
		}
	})
}

func TestNothingIsWrittenThatIsThere(t *testing.T) {
	run(t, func(t *testing.T, s *fakeServer) {
		has, _ := policyAt("a", 1, nil).Written.(meshv1a1.PolicyStatus)
		foreign := *has.DeepCopy()
		foreign.Conditions = append(foreign.Conditions, metav1.Condition{Type: "Reviewed", Status: metav1.ConditionTrue})
		s.want(policyAt("a", 1, foreign))
		s.after(t, time.Hour)

		// A snapshot that has not seen a write yet is no reason to write again ...
		s.want(policyAt("a", 2, foreign))
		s.after(t, time.Second, "a 2")
		s.want(policyAt("a", 2, foreign))
		s.after(t, time.Hour)
		has, _ = policyAt("a", 2, nil).Written.(meshv1a1.PolicyStatus)
		s.want(policyAt("a", 2, has))
		s.after(t, time.Hour)

		// ... but what somebody else has changed is.
		changed := *has.DeepCopy()
		changed.Conditions[0].Status = metav1.ConditionFalse
		s.want(policyAt("a", 2, changed))
		s.after(t, time.Hour, "a 2")
	})
}

func TestFailuresAreRetriedWithTheNewest(t *testing.T) {
	run(t, func(t *testing.T, s *fakeServer) {
		s.set(func() { s.fail = errors.New("no") })
		s.want(policyAt("a", 1, nil))
		s.after(t, time.Minute)
		s.want(policyAt("a", 2, nil))
		s.set(func() { s.fail = nil })
		s.after(t, longestRetry, "a 2")
	})
}

func TestWhatIsNotKnownIsNotWritten(t *testing.T) {
	run(t, func(t *testing.T, s *fakeServer) {
		s.set(func() { s.unknown = true })
		s.want(policyAt("a", 1, nil))
		s.after(t, time.Hour)
		s.set(func() { s.unknown = false })
		s.after(t, time.Second, "a 1")
	})
}

func TestAnotherObjectOfTheNameIsAnother(t *testing.T) {
	run(t, func(t *testing.T, s *fakeServer) {
		s.want(policyAt("a", 1, nil))
		s.after(t, time.Second, "a 1")
		again := policyAt("a", 1, nil)
		again.UID = "u2"
		s.want(again)
		s.after(t, time.Second, "a 1")
		s.want()
		s.after(t, time.Hour)
	})
}

// TestBurst: 500 objects that all change on and on are written at the rate, each
// in turn, and never in a state that is no more.
func TestBurst(t *testing.T) {
	const objects = 500
	run(t, func(t *testing.T, s *fakeServer) {
		for g := int64(1); g <= 20; g++ {
			var all []Desired
			for i := range objects {
				all = append(all, policyAt(fmt.Sprintf("p%03d", i), g, nil))
			}
			s.want(all...)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		s.mu.Lock()
		writes := len(s.writes)
		s.mu.Unlock()
		if most := DefaultBurst + 20*DefaultRate; writes > most || writes < most-DefaultRate {
			t.Errorf("%d writes in 20 s, want about %d", writes, most)
		}
		time.Sleep(objects / DefaultRate * time.Second)
		synctest.Wait()
		for name, d := range s.has {
			if d.Generation != 20 {
				t.Errorf("%s is left at %d", name, d.Generation)
			}
		}
		if len(s.has) != objects {
			t.Errorf("%d objects are written", len(s.has))
		}
	})
}
