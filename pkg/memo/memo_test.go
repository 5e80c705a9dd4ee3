package memo_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/meshd-io/meshd/pkg/memo"
	"github.com/meshd-io/meshd/pkg/report"
)

// library is a small graph: books have an author and tags, and authors a country.
//
//	books, authors --> books by country --> a line for each country, which says how its authors are called
type library struct {
	graph    *memo.Graph
	books    memo.Input[int, string]    // the author's name
	authors  memo.Input[string, string] // the country
	lines    *memo.Table[string, string]
	names    *memo.Names[string]
	computed int
}

func newLibrary() *library {
	g := memo.NewGraph()
	l := &library{graph: g, books: memo.NewInput[int, string](g), authors: memo.NewInput[string, string](g)}
	country := memo.NewTable(g, func(r *memo.Run, book int) (string, bool) {
		author, ok := l.books.Get(r, book)
		if !ok {
			return "", false
		}
		c, known := l.authors.Get(r, author)
		if !known {
			r.Tell(report.Finding{Message: fmt.Sprintf("book %d is by nobody", book)})
		}
		return c, known
	})
	memo.Follow(country, l.books.Table)
	byCountry := memo.NewIndex(country, cmp.Compare[int], func(book int, c string, emit memo.Emit[string, int, bool]) { emit(c, book, true) })
	upper := memo.NewTable(g, func(r *memo.Run, author string) (string, bool) { // asked for when it is needed
		_, known := l.authors.Get(r, author)
		return "<" + author + ">", known
	})
	l.lines = memo.NewTable(g, func(r *memo.Run, c string) (string, bool) {
		l.computed++
		line := ""
		for _, m := range byCountry.Get(r, c) {
			author, _ := l.books.Get(r, m.Key)
			shown, _ := upper.Get(r, author)
			line += fmt.Sprint(m.Key, shown)
		}
		return line, line != ""
	})
	memo.FollowGroups(l.lines, byCountry)
	l.names = memo.NewNames[string](g)
	memo.FeedNames(l.names, country, func(_ int, c string, use func(string)) { use(c) })
	l.lines.Watch(func(string, string, bool, string, bool) {})
	return l
}

func (l *library) state() (map[string]string, []report.Finding, []string) {
	l.graph.Update()
	names := map[string]struct{}{}
	maps.Insert(names, l.names.All())
	return maps.Collect(l.lines.All()), report.Sort(l.graph.Findings()), slices.Sorted(maps.Keys(names))
}

func TestStepByStepIsAsFromNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	books, authors := map[int]string{}, map[string]string{}
	live := newLibrary()
	for i := range 2000 {
		for range 1 + r.IntN(3) {
			book, author := r.IntN(8), fmt.Sprint("a", r.IntN(4))
			switch r.IntN(4) {
			case 0:
				delete(books, book)
				live.books.Delete(book)
			case 1:
				delete(authors, author)
				live.authors.Delete(author)
			case 2:
				authors[author] = fmt.Sprint("c", r.IntN(3))
				live.authors.Set(author, authors[author])
			default:
				books[book] = author
				live.books.Set(book, author)
			}
		}
		fresh := newLibrary()
		for k, v := range books {
			fresh.books.Set(k, v)
		}
		for k, v := range authors {
			fresh.authors.Set(k, v)
		}
		lines, findings, names := live.state()
		wantLines, wantFindings, wantNames := fresh.state()
		if !maps.Equal(lines, wantLines) || !slices.Equal(findings, wantFindings) || !slices.Equal(names, wantNames) {
			t.Fatalf("after %d changes: %v %v %v, from nothing %v %v %v", i, lines, findings, names, wantLines, wantFindings, wantNames)
		}
	}
}

func TestOnlyWhatIsConcernedIsComputed(t *testing.T) {
	l := newLibrary()
	for i := range 10 {
		author := fmt.Sprint("a", i)
		l.books.Set(i, author)
		l.authors.Set(author, fmt.Sprint("c", i))
	}
	l.state()
	computed := func(change func()) int {
		l.computed = 0
		change()
		l.state()
		return l.computed
	}
	if n := computed(func() { l.books.Set(3, "a3") }); n != 0 {
		t.Errorf("an equal value: %d lines", n)
	}
	if n := computed(func() { l.authors.Set("a3", "c4") }); n != 2 {
		t.Errorf("a book that moves: %d lines, want the one that it leaves and the one that it comes to", n)
	}
	if n := computed(func() { l.authors.Set("unread", "c1") }); n != 0 {
		t.Errorf("what nobody reads: %d lines", n)
	}
}
