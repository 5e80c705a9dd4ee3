package agent

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/meshd-io/meshd/pkg/agent/sdspb"
)

// sotwStream is the state of one state-of-the-world stream.
type sotwStream struct {
	wanted []string
	// version that was sent last, or that Envoy said it has.
	version string
	nonce   int
}

// sotw serves one state-of-the-world stream.
func (s *sds) sotw(stream sotwServer) error { return serve(s, stream, &sotwStream{}) }

// take: requests that answer an older response say nothing about what is wanted now.
func (st *sotwStream) take(s *sds, req *sdspb.DiscoveryRequest) error {
	if err := checkType(req.GetTypeUrl()); err != nil {
		return err
	}
	nonce := req.GetResponseNonce()
	if nonce != "" && nonce != strconv.Itoa(st.nonce) {
		return nil
	}
	if e := req.GetErrorDetail(); e != nil {
		s.log.Error("envoy refused a secret", "message", e.GetMessage(), "nonce", nonce)
	}
	names := slices.Compact(slices.Sorted(slices.Values(req.GetResourceNames())))
	switch {
	case nonce == "":
		st.version = req.GetVersionInfo()
	case !slices.Equal(names, st.wanted):
		st.version = ""
	}
	st.wanted = names
	return nil
}

// pending is the next response, nil if Envoy has all that there is. Its version
// is that of its secrets together.
func (st *sotwStream) pending(secrets Secrets) (*sdspb.DiscoveryResponse, error) {
	resp := &sdspb.DiscoveryResponse{TypeUrl: secretType}
	var versions []string
	for _, name := range st.wanted {
		r, ok, err := secrets.render(name)
		if err != nil {
			return nil, err
		}
		if ok {
			versions = append(versions, r.version)
			resp.Resources = append(resp.Resources, r.body)
		}
	}
	version := strings.Join(versions, ".")
	if version == "" || version == st.version {
		return nil, nil //nolint:nilnil // nothing to send is no error
	}
	st.version = version
	st.nonce++
	resp.VersionInfo, resp.Nonce = version, strconv.Itoa(st.nonce)
	return resp, nil
}

// clean makes the end of a stream by its client no error.
func clean(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
