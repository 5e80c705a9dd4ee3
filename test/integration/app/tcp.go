package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// tcpServer speaks one of a few plain protocols:
//
//	echo    sends back what comes, until the peer closes its side
//	count   reads until the peer closes its side, and answers only then
//	banner  speaks first, then echoes
//	talker  closes its own side first, and still reads: what came is logged
func tcpServer(kind string) server {
	return func(l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				if err := talk(kind, c.(*net.TCPConn)); err != nil {
					fmt.Fprintln(os.Stderr, kind, err)
				}
			}()
		}
	}
}

func talk(kind string, c *net.TCPConn) error {
	defer c.Close() //nolint:errcheck // what matters was written
	var err error
	switch kind {
	case "banner":
		if _, err = fmt.Fprintf(c, "220 %s sees %s\n", hostname(), c.RemoteAddr()); err == nil {
			_, err = io.Copy(c, c)
		}
	case "echo":
		_, err = io.Copy(c, c)
	case "count":
		var n int64
		if n, err = io.Copy(io.Discard, c); err == nil {
			_, err = fmt.Fprintf(c, "%s got %d bytes from %s\n", hostname(), n, c.RemoteAddr())
		}
	case "talker":
		if _, err = fmt.Fprintln(c, "my side is closed now"); err == nil {
			err = errors.Join(c.CloseWrite(), logAll(c))
		}
	}
	return err
}

func logAll(c net.Conn) error {
	n, err := io.Copy(io.Discard, c)
	fmt.Printf("after closing: %d bytes, %v\n", n, err)
	return err
}

type tcpAnswer struct {
	Connected bool   `json:"connected"`
	Local     string `json:"local"`
	First     string `json:"first"` // the line that came before anything was sent
	Received  string `json:"received"`
	Error     string `json:"error"`
}

// dialTCP connects, waits for a first line if asked to, sends, closes its side and reads to the end.
func dialTCP(args []string) error {
	flags := flag.NewFlagSet("tcp", flag.ContinueOnError)
	send := flags.String("send", "", "what to send")
	repeat := flags.Int("repeat", 1, "how often to send it")
	first := flags.Bool("first", false, "wait for a line first")
	untilEOF := flags.Bool("wait-eof", false, "send only when the peer has closed its side")
	if err := flags.Parse(args); err != nil {
		return err
	}
	out := tcpAnswer{}
	err := func() error {
		conn, err := (&net.Dialer{Timeout: 30 * time.Second}).Dial("tcp", flags.Arg(0)) //nolint:noctx // it has a timeout
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // all was read
		out.Connected, out.Local = true, conn.LocalAddr().String()
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return err
		}
		from := bufio.NewReader(conn)
		if *first {
			if out.First, err = from.ReadString('\n'); err != nil {
				return err
			}
		}
		if *untilEOF {
			rest, err := io.ReadAll(from)
			out.Received = string(rest)
			if err != nil {
				return err
			}
		}
		if _, err := io.WriteString(conn, strings.Repeat(*send, *repeat)); err != nil {
			return err
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil || *untilEOF {
			return err
		}
		rest, err := io.ReadAll(from)
		out.Received = string(rest)
		return err
	}()
	out.Error = text(err)
	return printJSON(out)
}
