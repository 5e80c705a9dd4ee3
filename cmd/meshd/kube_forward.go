package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// maxForwardError bounds what is read of why a pod's port cannot be reached, in bytes.
const maxForwardError = 4096

// dialPod makes connections to a port on a pod's loopback, through the API
// server. They are streams of port-forward (no port is opened on this machine,
// which its other users could reach as well).
func dialPod(config *rest.Config, namespace, pod string, port int) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		type dialled struct {
			conn net.Conn
			err  error
		}
		done := make(chan dialled, 1)
		go func() { // the dialer knows no context; it has bounds of its own
			conn, err := forward(config, namespace, pod, port)
			done <- dialled{conn, err}
		}()
		select {
		case d := <-done:
			return d.conn, d.err
		case <-ctx.Done():
			go func() {
				if d := <-done; d.conn != nil {
					_ = d.conn.Close() // nobody waits for it any more
				}
			}()
			return nil, ctx.Err()
		}
	}
}

func forward(config *rest.Config, namespace, pod string, port int) (net.Conn, error) {
	dialer, err := podDialer(config, namespace, pod)
	if err != nil {
		return nil, err
	}
	streams, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, err
	}
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	failed, err := streams.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(err, streams.Close())
	}
	_ = failed.Close() // nothing is written to it; reading goes on
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := streams.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(err, streams.Close())
	}
	f := &forwarded{Stream: data, streams: streams, told: make(chan struct{})}
	go f.listen(failed)
	return f, nil
}

// podDialer speaks SPDY inside of WebSocket, and where an API server or a proxy
// on the way does not know that, SPDY alone, as kubectl does.
func podDialer(config *rest.Config, namespace, pod string) (httpstream.Dialer, error) {
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	target := api.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	socket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(target, config)
	if err != nil {
		return nil, err
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	plain := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	return portforward.NewFallbackDialerForStreaming(socket, plain, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// forwarded is a stream of port-forward as a connection. It knows no deadlines: its user closes it.
type forwarded struct {
	httpstream.Stream
	streams httpstream.Connection
	told    chan struct{} // closed when failure is whole
	failure string
}

// listen reads why the port cannot be reached.
func (f *forwarded) listen(stream io.Reader) {
	text, _ := io.ReadAll(io.LimitReader(stream, maxForwardError)) // a broken stream ends the data too
	f.failure = strings.Join(strings.Fields(string(text)), " ")
	close(f.told)
}

// Read implements net.Conn.
func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.Stream.Read(p)
	if n == 0 && errors.Is(err, io.EOF) {
		<-f.told
		if f.failure != "" {
			return 0, fmt.Errorf("port-forward: %s", f.failure)
		}
	}
	return n, err
}

// Close implements net.Conn.
func (f *forwarded) Close() error { return f.streams.Close() }

// LocalAddr implements net.Conn.
func (f *forwarded) LocalAddr() net.Addr { return streamAddress{} }

// RemoteAddr implements net.Conn.
func (f *forwarded) RemoteAddr() net.Addr { return streamAddress{} }

// SetDeadline implements net.Conn.
func (f *forwarded) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (f *forwarded) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (f *forwarded) SetWriteDeadline(time.Time) error { return nil }

// streamAddress: a stream has no address of its own.
type streamAddress struct{}

func (streamAddress) Network() string { return "portforward" }
func (streamAddress) String() string  { return "portforward" }
