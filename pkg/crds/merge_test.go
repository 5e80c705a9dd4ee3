package crds

import (
	"strings"
	"testing"
	"time"

	"github.com/meshd-io/meshd/pkg/report"
)

// history merges states of files one after the other.
type history struct {
	t        *testing.T
	now      time.Time
	inForce  entries
	findings []report.Finding
}

func newHistory(t *testing.T) *history {
	t.Helper()
	return &history{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// read takes file names and contents in turns.
func (h *history) read(files ...string) *Snapshot {
	h.t.Helper()
	h.now = h.now.Add(time.Minute)
	var sources []*sourceFile
	for i := 0; i < len(files); i += 2 {
		sources = append(sources, &sourceFile{path: files[i], declarations: decodeFile(files[i], []byte(files[i+1]))})
	}
	h.inForce, h.findings = merge(sources, h.inForce, h.now)
	return h.inForce.snapshot()
}

func peerAuthentication(name, mode string) string {
	return "apiVersion: meshd.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: " + name + "}\nspec: {mode: " + mode + "}\n"
}

// modes lists name=mode.
func modes(s *Snapshot) string {
	var out []string
	for _, pa := range s.PeerAuthentications {
		out = append(out, pa.Name+"="+string(pa.Spec.Mode))
	}
	return strings.Join(out, " ")
}

func TestLastGoodVersionStaysInForce(t *testing.T) {
	strict, permissive := peerAuthentication("a", "Strict"), peerAuthentication("a", "Permissive")
	other := peerAuthentication("b", "Disable")
	const sep = "---\n"
	steps := []struct {
		name  string
		files []string
		want  string
		// findings is how many there are.
		findings int
	}{
		{"at first", []string{"f", strict + sep + other}, "a=Strict b=Disable", 0},
		{"a rule is violated", []string{"f", peerAuthentication("a", "Loose") + sep + other}, "a=Strict b=Disable", 1},
		{"the others go on", []string{"f", peerAuthentication("a", "Loose") + sep + peerAuthentication("b", "Strict")}, "a=Strict b=Strict", 1},
		{"unknown field", []string{"f", strict + "foo: bar\n" + sep + other}, "a=Strict b=Disable", 1},
		{"unknown version", []string{"f", strings.Replace(permissive, "v1alpha1", "v9", 1) + sep + other}, "a=Strict b=Disable", 1},
		{"not YAML, but it names the object", []string{"f", permissive + "x: [\n" + sep + other}, "a=Strict b=Disable", 1},
		{"mended", []string{"f", permissive + sep + other}, "a=Permissive b=Disable", 0},
		{"a document without a name: it may be any", []string{"f", "]]]\n" + sep + other}, "a=Permissive b=Disable", 1},
		{"the whole file is broken", []string{"f", "]]]\n"}, "a=Permissive b=Disable", 1},
		{"another file goes on meanwhile", []string{"f", "]]]\n", "g", peerAuthentication("c", "Strict")}, "a=Permissive b=Disable c=Strict", 1},
		{"moved to another file", []string{"f", other, "g", strict + sep + peerAuthentication("c", "Strict")}, "a=Strict b=Disable c=Strict", 0},
		{"moved and broken", []string{"f", peerAuthentication("a", "Loose") + sep + other, "g", peerAuthentication("c", "Strict")}, "a=Strict b=Disable c=Strict", 1},
		{"left out", []string{"f", other}, "b=Disable", 0},
		{"back, but broken: nothing stays of it", []string{"f", peerAuthentication("a", "Loose") + sep + other}, "b=Disable", 1},
		{"emptied", []string{"f", ""}, "", 0},
		{"gone", nil, "", 0},
	}
	h := newHistory(t)
	for _, s := range steps {
		if got := modes(h.read(s.files...)); got != s.want {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
		if len(h.findings) != s.findings {
			t.Errorf("%s: findings %+v", s.name, h.findings)
		}
	}
}

func TestFirstOfTwoDeclarationsCounts(t *testing.T) {
	h := newHistory(t)
	strict, permissive, broken := peerAuthentication("a", "Strict"), peerAuthentication("a", "Permissive"), peerAuthentication("a", "Loose")
	for i, step := range []struct{ f, g, want string }{
		{broken, permissive, "a=Permissive"}, // the first is nothing: the second is all there is
		{strict, permissive, "a=Strict"},
		{broken, permissive, "a=Strict"}, // the last good version of the first
		{broken, peerAuthentication("a", "Disable"), "a=Strict"},
		{"", permissive, "a=Permissive"},
	} {
		if got := modes(h.read("f", step.f, "g", step.g)); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
		duplicates := 0
		for _, f := range h.findings {
			if f.Reason == report.Duplicate {
				duplicates++
			}
		}
		if want := min(1, len(step.f)); duplicates != want {
			t.Errorf("step %d: %d duplicates told, want %d: %+v", i, duplicates, want, h.findings)
		}
	}
}

func TestGenerationAndCreationAcrossReloads(t *testing.T) {
	h := newHistory(t)
	first := h.read("f", peerAuthentication("a", "Strict")).PeerAuthentications[0]
	if first.Generation != 1 || !first.CreationTimestamp.Time.Equal(h.now) {
		t.Errorf("first: %+v", first.ObjectMeta)
	}
	same := h.read("f", "# a comment\n"+peerAuthentication("a", "Strict")).PeerAuthentications[0]
	if same != first {
		t.Error("the same content is another object")
	}
	moved := h.read("g", peerAuthentication("a", "Strict")).PeerAuthentications[0]
	if moved != first {
		t.Error("moved to another file it is another object")
	}
	labelled := h.read("g", strings.Replace(peerAuthentication("a", "Strict"), "name: a", "name: a, labels: {x: one}", 1)).PeerAuthentications[0]
	if labelled.Generation != 1 || labelled.Labels["x"] != "one" || !labelled.CreationTimestamp.Equal(&first.CreationTimestamp) {
		t.Errorf("metadata alone: %+v", labelled.ObjectMeta)
	}
	changed := h.read("g", peerAuthentication("a", "Disable")).PeerAuthentications[0]
	if changed.Generation != 2 || !changed.CreationTimestamp.Equal(&first.CreationTimestamp) {
		t.Errorf("changed: %+v", changed.ObjectMeta)
	}
	h.read("g", "]]]")
	again := h.read("g", peerAuthentication("a", "Strict")).PeerAuthentications[0]
	if again.Generation != 3 || !again.CreationTimestamp.Equal(&first.CreationTimestamp) {
		t.Errorf("after a fault: %+v", again.ObjectMeta)
	}
	h.read("g", "")
	anew := h.read("g", peerAuthentication("a", "Strict")).PeerAuthentications[0]
	if anew.Generation != 1 || !anew.CreationTimestamp.Time.Equal(h.now) {
		t.Errorf("deleted and made anew: %+v", anew.ObjectMeta)
	}
	if first.Generation != 1 || first.Spec.Mode != "Strict" {
		t.Error("an object of an old snapshot has changed")
	}
}
