package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"syscall"
)

const (
	ethernetHeader = 14
	protocolTCP    = 6
	shown          = 48
)

// wire prints what an eavesdropper between the pods would see: the first bytes
// of every TCP payload to or from a port, as text. It needs CAP_NET_RAW.
func wire(args []string) error {
	flags := flag.NewFlagSet("wire", flag.ContinueOnError)
	port := flags.Int("port", 0, "TCP port to look at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *port <= 0 || *port > 65535 {
		return errors.New("usage: eazybank wire --port PORT")
	}
	allProtocols := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	// No protocol yet: until it is bound to eth0 the socket would hear every interface, lo too.
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return fmt.Errorf("eth0: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: allProtocols, Ifindex: eth0.Index}); err != nil {
		return fmt.Errorf("bind to eth0: %w", err)
	}
	buf := make([]byte, 65536)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if payload, ok := payloadOf(buf[:n], uint16(*port)); ok {
			fmt.Printf("%d bytes %q\n", len(payload), payload[:min(len(payload), shown)])
		}
	}
}

// payloadOf is the TCP payload of an Ethernet frame with IPv4, where it has one and either port is wanted.
func payloadOf(frame []byte, port uint16) ([]byte, bool) {
	if len(frame) < ethernetHeader+20 || binary.BigEndian.Uint16(frame[12:]) != syscall.ETH_P_IP {
		return nil, false
	}
	ip := frame[ethernetHeader:]
	header, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[9] != protocolTCP || total > len(ip) || header+20 > total {
		return nil, false
	}
	tcp := ip[header:total]
	if binary.BigEndian.Uint16(tcp) != port && binary.BigEndian.Uint16(tcp[2:]) != port {
		return nil, false
	}
	data := int(tcp[12]>>4) * 4
	if data >= len(tcp) {
		return nil, false
	}
	return tcp[data:], true
}
