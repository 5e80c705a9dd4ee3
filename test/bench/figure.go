package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one line of the table.
type figure struct {
	Group string  `json:"group"`
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Note  string  `json:"note,omitempty"`
}

// machine is where figures come from.
type machine struct {
	CPUs    int      `json:"cpus"`
	Model   string   `json:"model"`
	Figures []figure `json:"figures"`
}

func cpus() int { return runtime.NumCPU() }

func cpuModel() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func printTable(out io.Writer, figures []figure) error {
	fmt.Fprintf(out, "%d CPUs, %s\n", cpus(), cpuModel())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	group := ""
	for _, f := range figures {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(w, "\n%s\t\t\t\n", group)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", f.What, number(f.Value), f.Unit, f.Note)
	}
	return w.Flush()
}

// number has three digits that count.
func number(v float64) string {
	switch size := math.Abs(v); {
	case size >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// quantile of durations (0.5 is the median), in milliseconds: the smallest one
// that at least this part of them do not exceed. The list need not be sorted.
func quantile(q float64, list []time.Duration) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	i := int(q*float64(len(sorted))+0.999999) - 1
	return milliseconds(sorted[min(max(i, 0), len(sorted)-1)])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantiles are the median and the 99th percentile as figures.
func quantiles(group, what string, list []time.Duration, note string) []figure {
	if note != "" {
		note = ", " + note
	}
	note = fmt.Sprintf("%d samples%s", len(list), note)
	return []figure{
		{group, what + ", p50", quantile(0.5, list), "ms", note},
		{group, what + ", p99", quantile(0.99, list), "ms", note},
	}
}
