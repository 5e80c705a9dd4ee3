package agent

import (
	"log/slog"
	"slices"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd-io/meshd/pkg/agent/sdspb"
)

// sds serves the secrets to Envoy, delta and state of the world.
type sds struct {
	board *board
	log   *slog.Logger
	stop  <-chan struct{}
}

// recv reads a stream in a goroutine of its own, so that its handler can wait
// for changes too. The goroutine ends with the stream.
func recv[T any](next func() (T, error), done <-chan struct{}) (<-chan T, <-chan error) {
	reqs, errs := make(chan T), make(chan error, 1)
	go func() {
		for {
			req, err := next()
			if err != nil {
				errs <- err
				return
			}
			select {
			case reqs <- req:
			case <-done:
				return
			}
		}
	}()
	return reqs, errs
}

var errStopping = status.Error(codes.Unavailable, "the agent stops") //nolint:gochecknoglobals // an error value

// deltaStream is the state of one delta stream: what Envoy wants, and which version it has.
type deltaStream struct {
	wanted map[string]bool
	sent   map[string]string
	nonce  int
}

// subscription is what a client of one stream wants and has.
type subscription[Req, Resp any] interface {
	// pending is what the client is owed now; nil is nothing.
	pending(Secrets) (*Resp, error)
	// take takes in one request.
	take(*sds, *Req) error
}

// serve serves one stream of either kind. A secret that is not there yet is
// sent when it comes.
func serve[Req, Resp any](s *sds, stream grpc.BidiStreamingServer[Req, Resp], sub subscription[Req, Resp]) error {
	reqs, errs := recv(stream.Recv, stream.Context().Done())
	for {
		secrets, changed := s.board.get()
		resp, err := sub.pending(secrets)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if resp != nil {
			if err := stream.Send(resp); err != nil {
				return err
			}
		}
		select {
		case req := <-reqs:
			if err := sub.take(s, req); err != nil {
				return err
			}
		case err := <-errs:
			return clean(err)
		case <-changed:
		case <-s.stop:
			return errStopping
		}
	}
}

// delta serves one delta stream. A secret that Envoy holds already is not sent
// again, unless Envoy subscribes to it anew.
func (s *sds) delta(stream deltaServer) error {
	return serve(s, stream, &deltaStream{wanted: map[string]bool{}, sent: map[string]string{}})
}

func (st *deltaStream) take(s *sds, req *sdspb.DeltaDiscoveryRequest) error {
	if err := checkType(req.GetTypeUrl()); err != nil {
		return err
	}
	if e := req.GetErrorDetail(); e != nil {
		s.log.Error("envoy refused a secret", "message", e.GetMessage(), "nonce", req.GetResponseNonce())
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		delete(st.wanted, name)
		delete(st.sent, name)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if !known(name) {
			s.log.Warn("envoy asks for a secret that the agent does not have", "name", name)
		}
		st.wanted[name] = true
		delete(st.sent, name)
	}
	for name, version := range req.GetInitialResourceVersions() {
		if st.wanted[name] {
			st.sent[name] = version
		}
	}
	return nil
}

// gone is the version of a name that was answered as removed.
const gone = "-"

// pending is the next response, nil if Envoy has all that there is.
func (st *deltaStream) pending(secrets Secrets) (*sdspb.DeltaDiscoveryResponse, error) {
	resp := &sdspb.DeltaDiscoveryResponse{TypeUrl: secretType}
	names := make([]string, 0, len(st.wanted))
	for name := range st.wanted {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !known(name) {
			if st.sent[name] != gone {
				st.sent[name] = gone
				resp.RemovedResources = append(resp.RemovedResources, name)
			}
			continue
		}
		r, ok, err := secrets.render(name)
		if err != nil {
			return nil, err
		}
		if ok && st.sent[name] != r.version {
			st.sent[name] = r.version
			resp.Resources = append(resp.Resources, &sdspb.Resource{Name: name, Version: r.version, Resource: r.body})
		}
	}
	if len(resp.Resources)+len(resp.RemovedResources) == 0 {
		return nil, nil //nolint:nilnil // nothing to send is no error
	}
	st.nonce++
	resp.Nonce = strconv.Itoa(st.nonce)
	return resp, nil
}

func checkType(url string) error {
	if url != "" && url != secretType {
		return status.Errorf(codes.InvalidArgument, "this is a server of secrets, not of %s", url)
	}
	return nil
}
