package injector_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/meshd-io/meshd/pkg/injector"
)

// benchBody is the review of a pod with probes, as the API server would send it.
func benchBody(b *testing.B) []byte {
	b.Helper()
	text, err := os.ReadFile("testdata/probes-http.in.yaml")
	if err != nil {
		b.Fatal(err)
	}
	return must(json.Marshal(review(b, string(text))))
}

func BenchmarkInject(b *testing.B) {
	text, err := os.ReadFile("testdata/probes-http.in.yaml")
	if err != nil {
		b.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal(text, pod); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, d := injector.Inject(pod, nil, injector.Config{Bootstrap: bootstrap}); !d.Injected {
			b.Fatal(d)
		}
	}
}

// asServed is the webhook as meshd has it.
func asServed(b *testing.B) hook {
	render := injector.Remember(bootstrap)
	return serveWebhook(b, injector.WebhookConfig{
		Config: func() (injector.Config, bool) { return injector.Config{Bootstrap: render}, true },
	})
}

// BenchmarkReview is one review after the other on one TLS connection.
func BenchmarkReview(b *testing.B) {
	h := asServed(b)
	body := benchBody(b)
	b.ReportAllocs()
	for b.Loop() {
		if status, answer := h.post(b, "application/json", body); status != http.StatusOK {
			b.Fatalf("%s", answer)
		}
	}
}

// BenchmarkReviewsAt200PerSecond sends reviews at that rate whether or not the
// ones before are answered, as an API server does, over TLS. The figures are
// the caller's; -benchtime=2000x takes 10 s.
func BenchmarkReviewsAt200PerSecond(b *testing.B) {
	h := asServed(b)
	body := benchBody(b)
	client := h.server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	var mu sync.Mutex
	var all sync.WaitGroup
	took := make([]time.Duration, 0, b.N)
	tick := time.NewTicker(time.Second / 200)
	defer tick.Stop()
	b.ResetTimer()
	for range b.N {
		<-tick.C
		all.Go(func() {
			begin := time.Now()
			res, err := client.Post(h.server.URL+injector.WebhookPath, "application/json", bytes.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
				b.Errorf("HTTP %d, %v", res.StatusCode, err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(begin))
		})
	}
	all.Wait()
	b.StopTimer()
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	at := func(percent int) float64 {
		return float64(took[(len(took)-1)*percent/100].Microseconds()) / 1000
	}
	b.ReportMetric(at(50), "p50-ms")
	b.ReportMetric(at(99), "p99-ms")
	b.ReportMetric(0, "ns/op") // the rate, and nothing that was measured
}
