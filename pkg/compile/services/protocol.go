package services

import (
	"strings"

	"github.com/meshd-io/meshd/pkg/model"
)

// protocolNamed maps appProtocol and the names of ports to protocols (API.md, Protocols).
func protocolNamed(name string) model.Protocol {
	switch strings.ToLower(name) {
	case "http", "grpc-web", "kubernetes.io/ws":
		return model.HTTP
	case "http2", "kubernetes.io/h2c":
		return model.HTTP2
	case "grpc":
		return model.GRPC
	case "https", "tls", "tcp", "mysql", "postgres", "redis", "mongo", "smtp", "kubernetes.io/wss":
		return model.TCP
	}
	return model.Undeclared
}

// protocolNumbered knows the ports whose servers speak first: detection would
// hold their greeting until its timeout. IANA's numbers of FTP, SSH, Telnet,
// SMTP, POP3, IMAP, submission, MySQL and VNC. Protocols in which the client
// speaks first (PostgreSQL, Redis) are detected at no cost and are not listed.
func protocolNumbered(port uint16) model.Protocol {
	switch port {
	case 21, 22, 23, 25, 110, 143, 587, 3306, 5900:
		return model.TCP
	}
	return model.Undeclared
}

// protocolOf is the protocol that a port declares: by appProtocol, then its
// name or the name's part before the first "-", then its number.
func protocolOf(appProtocol *string, name string, numbers ...uint16) model.Protocol {
	first, _, _ := strings.Cut(name, "-")
	candidates := []string{name, first}
	if appProtocol != nil {
		candidates = append([]string{*appProtocol}, candidates...)
	}
	for _, c := range candidates {
		if p := protocolNamed(c); p != model.Undeclared {
			return p
		}
	}
	for _, n := range numbers {
		if p := protocolNumbered(n); p != model.Undeclared {
			return p
		}
	}
	return model.Undeclared
}
