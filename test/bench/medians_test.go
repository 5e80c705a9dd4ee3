package main

import (
	"slices"
	"testing"
)

func TestMedians(t *testing.T) {
	var runs [][]figure
	for _, v := range []float64{5, 1, 9} {
		runs = append(runs, []figure{{"g", "a", v, "ms", ""}, {"g", "b", -v, "", number(v)}})
	}
	want := []figure{{"g", "a", 5, "ms", "median of 3: 1.00 to 9.00"}, {"g", "b", -5, "", "median of 3: -9.00 to -1.00; 5.00"}}
	if got := medians(runs); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestGrowth(t *testing.T) {
	var g growth
	for _, p := range []scalePoint{{250, 1000}, {1000, 1000}, {3000, 1000}, {250, 100}} {
		cpu := float64(p.proxies)*0.08 + float64(p.services)*0.01
		g.add("files", p, []figure{{"", "CPU", cpu, "ms", ""}, {"", "load", 7, "", ""}})
	}
	var got []figure
	for _, f := range g.figures() {
		f.Value, f.Note = float64(int(f.Value*1000+0.5))/1000, ""
		got = append(got, f)
	}
	want := []figure{
		{"growth, 1000 proxies more at 1000 services, files", "CPU", 80, "ms", ""},
		{"growth, 1000 services more at 250 proxies, files", "CPU", 10, "ms", ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
