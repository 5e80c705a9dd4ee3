package compile

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"

	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/crds"
	"github.com/meshd-io/meshd/pkg/model"
	"github.com/meshd-io/meshd/pkg/report"
)

// DefaultSystemNamespace is where meshd and its gateways run.
const DefaultSystemNamespace = "meshd-system"

// Config is what compilation needs beside the snapshot.
type Config struct {
	// Trust is what workloads trust each other by.
	Trust model.Trust
	// SystemNamespace is where meshd and its gateways run; DefaultSystemNamespace when "".
	SystemNamespace string
	// CIDRs of services and pods, beside those that MeshConfig lists and the
	// cluster tells of. Where there are none, the addresses of all known pods and Services are taken one by one.
	CIDRs []netip.Prefix
	// TrustDomain is the one that live proxies have certificates of: MeshConfig
	// may not change it. "" when no proxies live.
	TrustDomain string
}

// Compiler compiles the snapshots of one history. What a snapshot has in common
// with the one before it is not compiled again, and is the same pointer in the
// new Mesh; objects are told apart by their pointers. The result is what a new
// Compiler would give that remembers the same last good versions.
//
// It belongs to one goroutine; what it gives is immutable.
type Compiler struct {
	memory memory
	basis  basis
	last   *crds.Snapshot // that the tables hold
	tables *tables

	mesh     *model.Mesh
	loose    []report.Finding // of objects that are in no table
	findings []report.Finding
}

// basis is what everything depends on: another one is another mesh.
type basis struct {
	defaults policy.Defaults
	system   string
}

// NewCompiler has compiled nothing and remembers nothing.
func NewCompiler() *Compiler { return &Compiler{memory: newMemory()} }

// Compile compiles one snapshot that has no history.
func Compile(snap *crds.Snapshot, config Config) (*model.Mesh, []report.Finding) {
	return NewCompiler().Compile(snap, config)
}

// Settings are those of a snapshot that has no history; its findings are Compile's.
func Settings(snap *crds.Snapshot, config Config) model.Settings {
	s, _ := newMemory().settings(snap, config)
	return s.model
}

// Compile compiles the next snapshot. The findings are sorted and distinct; nobody may change them.
func (c *Compiler) Compile(snap *crds.Snapshot, config Config) (*model.Mesh, []report.Finding) {
	s, loose := c.memory.settings(snap, config)
	loose = append(loose, checkCertificateAuthorities(snap)...)
	for _, obj := range snap.RequestAuthentications {
		loose = append(loose, policy.Unsupported(obj))
	}
	basis := basis{defaults: s.defaults, system: cmp.Or(config.SystemNamespace, DefaultSystemNamespace)}
	fresh := c.tables == nil || !reflect.DeepEqual(basis, c.basis)
	if fresh {
		c.basis, c.tables, c.last, c.mesh = basis, newTables(basis), &crds.Snapshot{}, nil
		c.memory.forget(snap)
	}
	cidrs := sortPrefixes(slices.Concat(s.model.CIDRs, config.CIDRs, snap.CIDRs))
	c.tables.cidrs.Set(struct{}{}, cidrs)
	c.feed(snap)
	c.tables.graph.Update()
	c.last = snap

	mesh := c.tables.mesh()
	mesh.Settings, mesh.Trust = s.model, config.Trust
	mesh.Settings.CIDRs = cidrs
	if len(cidrs) == 0 {
		mesh.Settings.CIDRs = oneByOne(mesh, c.mesh)
	}
	c.mesh = mesh
	if g := c.tables.graph; g.Retold() || fresh || !slices.Equal(loose, c.loose) {
		c.loose = loose
		c.findings = report.Sort(append(g.Findings(), loose...))
	}
	return mesh, c.findings
}
