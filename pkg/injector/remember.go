package injector

import (
	"encoding/json"
	"fmt"
	"sync"
)

// rememberMost bounds what Remember holds: a bootstrap has some 10 KB.
const rememberMost = 512

// Remember renders each input once. A workload's pods differ in nothing that a
// bootstrap says, and rendering it is most of what a review costs. What is
// given must be a function of its input alone; nobody may change what it gives.
func Remember(render Bootstrapper) Bootstrapper {
	var mu sync.Mutex
	known := map[string]Bootstrap{}
	return func(in BootstrapInput) (Bootstrap, error) {
		text, err := json.Marshal(in)
		if err != nil {
			return Bootstrap{}, fmt.Errorf("tell bootstraps apart: %w", err)
		}
		key := string(text)
		mu.Lock()
		out, there := known[key]
		mu.Unlock()
		if there {
			return out, nil
		}
		if out, err = render(in); err != nil {
			return Bootstrap{}, err
		}
		mu.Lock()
		defer mu.Unlock()
		if len(known) >= rememberMost {
			clear(known)
		}
		known[key] = out
		return out, nil
	}
}
