package injector_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/meshd-io/meshd/pkg/injector"
)

func TestRemember(t *testing.T) {
	var mu sync.Mutex
	rendered := map[string]int{}
	broken := errors.New("no template")
	remembered := injector.Remember(func(in injector.BootstrapInput) (injector.Bootstrap, error) {
		mu.Lock()
		defer mu.Unlock()
		rendered[in.ServiceAccount]++
		if in.ServiceAccount == "broken" {
			return injector.Bootstrap{}, broken
		}
		return injector.Bootstrap{Config: in.ServiceAccount}, nil
	})
	ask := func(account string) {
		t.Helper()
		if got, err := remembered(injector.BootstrapInput{ServiceAccount: account}); err != nil || got.Config != account {
			t.Errorf("%s: %q, %v", account, got.Config, err)
		}
	}
	ask("a")
	ask("a")
	if rendered["a"] != 1 {
		t.Errorf("rendered %d times", rendered["a"])
	}
	// A failure is not remembered, and what differs is not mixed up; it is bounded.
	for range 2 {
		if _, err := remembered(injector.BootstrapInput{ServiceAccount: "broken"}); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	if rendered["broken"] != 2 {
		t.Errorf("a failure is rendered %d times", rendered["broken"])
	}
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() { ask(strconv.Itoa(i)) })
	}
	all.Wait()
	ask("a")
	if rendered["a"] != 2 {
		t.Errorf("rendered %d times, though more has been rendered since than is held", rendered["a"])
	}
}
