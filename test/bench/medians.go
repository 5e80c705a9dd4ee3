package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ints are a flag's numbers, with commas.
type ints []int

func (l *ints) String() string {
	var out []string
	for _, n := range *l {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ",")
}

// Set implements flag.Value.
func (l *ints) Set(text string) error {
	*l = nil
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number from 1 on", field)
		}
		*l = append(*l, n)
	}
	return nil
}

// medians of runs that have measured the same.
func medians(runs [][]figure) []figure {
	if len(runs) == 1 {
		return runs[0]
	}
	var out []figure
	for i := range runs[0] {
		var same []figure
		for _, run := range runs {
			same = append(same, run[i])
		}
		slices.SortFunc(same, func(a, b figure) int {
			if a.Value < b.Value {
				return -1
			}
			return 1
		})
		f := same[(len(same)-1)/2]
		spread := fmt.Sprintf("median of %d: %s to %s", len(same), number(same[0].Value), number(same[len(same)-1].Value))
		f.Note = strings.TrimSuffix(spread+"; "+f.Note, "; ")
		out = append(out, f)
	}
	return out
}

// growth is how figures follow the size of what they are measured on.
type growth struct{ points []growthPoint }

type growthPoint struct {
	series  string
	at      scalePoint
	figures []figure
}

func (g *growth) add(series string, at scalePoint, figures []figure) {
	g.points = append(g.points, growthPoint{series, at, figures})
}

// figures are slopes: of each figure with a unit (but for those that are of one
// proxy: the slope of the whole is that), for every row of sizes of which there are two or more.
func (g *growth) figures() []figure {
	var out []figure
	for _, axis := range []struct {
		what, fixed string
		size, other func(scalePoint) int
	}{
		{"proxies", "services", func(p scalePoint) int { return p.proxies }, func(p scalePoint) int { return p.services }},
		{"services", "proxies", func(p scalePoint) int { return p.services }, func(p scalePoint) int { return p.proxies }},
	} {
		rows := map[string][]growthPoint{}
		var names []string
		for _, p := range g.points {
			name := fmt.Sprintf("growth, 1000 %s more at %d %s, %s", axis.what, axis.other(p.at), axis.fixed, p.series)
			if rows[name] == nil {
				names = append(names, name)
			}
			rows[name] = append(rows[name], p)
		}
		for _, name := range names {
			if len(rows[name]) > 1 {
				out = append(out, slopes(name, rows[name], axis.size)...)
			}
		}
	}
	return out
}

func slopes(group string, points []growthPoint, size func(scalePoint) int) []figure {
	var out []figure
	for i, f := range points[0].figures {
		if f.Unit == "" || strings.HasPrefix(f.What, "RSS per proxy") {
			continue
		}
		var x, y []float64
		var values []string
		for _, p := range points {
			x, y = append(x, float64(size(p.at))/1000), append(y, p.figures[i].Value)
			values = append(values, number(p.figures[i].Value))
		}
		out = append(out, figure{group, f.What, slope(x, y), f.Unit, "from " + strings.Join(values, ", ")})
	}
	return out
}

// slope of the line of the least squares.
func slope(x, y []float64) float64 {
	var mx, my, xx, xy float64
	for i := range x {
		mx, my = mx+x[i]/float64(len(x)), my+y[i]/float64(len(x))
	}
	for i := range x {
		xx, xy = xx+(x[i]-mx)*(x[i]-mx), xy+(x[i]-mx)*(y[i]-my)
	}
	return xy / xx
}
