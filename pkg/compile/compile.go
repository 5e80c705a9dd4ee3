package compile

import (
	"cmp"
	"net/netip"

	"github.com/meshd-io/meshd/pkg/compile/ingress"
	"github.com/meshd-io/meshd/pkg/compile/policy"
	"github.com/meshd-io/meshd/pkg/compile/services"
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
	// Accepted are the last good versions of policies.
	Accepted Memory
}

// Compile compiles a snapshot. The findings are sorted and distinct.
func Compile(snap *crds.Snapshot, config Config) (*model.Mesh, []report.Finding) {
	system := cmp.Or(config.SystemNamespace, DefaultSystemNamespace)
	s, fs := settingsOf(snap, config)
	add := func(more []report.Finding) { fs = append(fs, more...) }
	add(checkCertificateAuthorities(snap))

	policies, faults := policy.Read(snap, s.defaults, config.Accepted.policies)
	add(faults)
	inventory, faults := services.Take(snap, services.Config{
		TrustDomain:     s.model.TrustDomain,
		Aliases:         s.model.TrustDomainAliases,
		SystemNamespace: system,
		SelectorKeys:    policies.SelectorKeys(),
	})
	add(faults)
	add(policies.Unresolved(inventory))
	carriages, faults := policies.Traffic(inventory.ServiceNames())
	add(faults)
	workloads, faults := inventory.Workloads(carriages)
	add(faults)
	add(policies.Bind(workloads, inventory))
	byName, byAddress, faults := inventory.Services(carriages, workloads)
	add(faults)

	mesh := &model.Mesh{
		Settings:          s.model,
		Trust:             config.Trust,
		Workloads:         workloads,
		Services:          byName,
		ServicesByAddress: byAddress,
		Gateways:          map[model.WorkloadKey]*model.Gateway{},
	}
	mesh.Pods, mesh.PodsByAddress = inventory.Model()
	add(cover(mesh, config.CIDRs, snap.CIDRs))

	key := model.WorkloadKey{Kind: model.GatewayProxy, Namespace: system, ServiceAccount: services.IngressServiceAccount}
	gateway, needed, faults := ingress.Compile(snap, key, byName)
	add(faults)
	if needed {
		mesh.Gateways[key] = gateway
	}
	return mesh, report.Sort(fs)
}
