package peer

import (
	"context"
	"math"
	"net/netip"
	"time"

	"google.golang.org/grpc"

	"github.com/meshd-io/meshd/internal/clock"
	"github.com/meshd-io/meshd/pkg/peer/peerv1"
	"github.com/meshd-io/meshd/pkg/xds/demand"
	"github.com/meshd-io/meshd/pkg/xds/scope"
)

const (
	// demandPace: what is new is told so often at the most. It matters to proxies that start.
	demandPace = time.Second
	// demandChunk of destinations, or demandBytes of what names their workloads, are told in one message.
	demandChunk = 1000
	demandBytes = 64 << 10
	// maxDemandBytes of a message are read at all: several times what a chunk can have.
	maxDemandBytes = 1 << 20
	// maxNameBytes of a namespace or account, and maxLabelBytes of labels, are believed.
	maxNameBytes  = 253
	maxLabelBytes = 32 << 10
)

// Demand knows which destinations are in use (demand.Book).
type Demand interface {
	// News gives what is new since a revision, 0 for all, and the revision to ask from the next time.
	News(since uint64) (news []demand.Use, revision uint64)
	// Changed gives a channel that is closed when there is news.
	Changed() <-chan struct{}
}

// Demand implements peerv1.PeerServiceServer.
func (s *Server) Demand(_ *peerv1.DemandRequest, stream grpc.ServerStreamingServer[peerv1.DemandResponse]) error {
	ctx := stream.Context()
	if err := s.admit(ctx, peerv1.PeerService_Demand_FullMethodName); err != nil {
		return err
	}
	var told uint64
	for {
		changed := s.cfg.Demand.Changed()
		var news []demand.Use
		news, told = s.cfg.Demand.News(told)
		if err := tellDemand(news, stream.Send); err != nil {
			return err
		}
		if !clock.Pause(ctx, demandPace) {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tellDemand sends uses in chunks; those of one workload stand together.
func tellDemand(news []demand.Use, send func(*peerv1.DemandResponse) error) error {
	for len(news) > 0 {
		m := &peerv1.DemandResponse{}
		var last *peerv1.WorkloadDemand
		n, bytes := 0, 0
		for ; n < min(len(news), demandChunk) && bytes < demandBytes; n++ {
			u := news[n]
			if n == 0 || u.Workload != news[n-1].Workload {
				k := u.Workload
				last = &peerv1.WorkloadDemand{
					Namespace: k.Namespace, ServiceAccount: k.ServiceAccount, Labels: k.Labels, PodCertificate: k.PodCertificate,
				}
				bytes += len(k.Namespace) + len(k.ServiceAccount) + len(k.Labels)
				m.Workloads = append(m.Workloads, last)
			}
			last.Destinations = append(last.Destinations, &peerv1.Destination{
				Ip: u.Destination.Addr().AsSlice(), Port: uint32(u.Destination.Port()), LastUsed: u.Last,
			})
		}
		if err := send(m); err != nil {
			return err
		}
		news = news[n:]
	}
	return nil
}

// followDemand takes in what one stream tells.
func (w *Watcher) followDemand(ctx context.Context, client peerv1.PeerServiceClient) error {
	stream, err := client.Demand(ctx, &peerv1.DemandRequest{}, grpc.MaxCallRecvMsgSize(maxDemandBytes))
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if news := decodeDemand(m); len(news) > 0 {
			w.cfg.Learn(news)
		}
	}
}

// decodeDemand leaves out what makes no sense.
func decodeDemand(m *peerv1.DemandResponse) (news []demand.Use) {
	for _, d := range m.GetWorkloads() {
		k := scope.Key{
			Namespace: d.GetNamespace(), ServiceAccount: d.GetServiceAccount(), Labels: d.GetLabels(), PodCertificate: d.GetPodCertificate(),
		}
		if !isName(k.Namespace) || !isName(k.ServiceAccount) || len(k.Labels) > maxLabelBytes {
			continue
		}
		for _, to := range d.GetDestinations() {
			ip, ok := netip.AddrFromSlice(to.GetIp())
			if !ok || to.GetPort() == 0 || to.GetPort() > math.MaxUint16 || to.GetLastUsed() <= 0 {
				continue
			}
			news = append(news, demand.Use{
				Workload: k, Destination: netip.AddrPortFrom(ip, uint16(to.GetPort())), Last: to.GetLastUsed(),
			})
		}
	}
	return news
}

func isName(s string) bool { return s != "" && len(s) <= maxNameBytes }
