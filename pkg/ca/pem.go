package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPEM bounds what is parsed: a Secret holds at most 1 MiB, a chain a few KB.
const maxPEM = 256 << 10

// ParseCertificates reads PEM that holds certificates, at least one, and nothing else.
func ParseCertificates(raw []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	err := eachBlock(raw, func(block *pem.Block) error {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("unexpected %q block", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		out = append(out, c)
		return err
	})
	if err == nil && len(out) == 0 {
		err = errors.New("holds no certificate")
	}
	return out, err
}

// ParseKey reads PEM that holds one private key (PKCS #8, SEC 1 or PKCS #1).
// Its errors tell nothing of the key.
func ParseKey(raw []byte) (crypto.Signer, error) {
	var out crypto.Signer
	err := eachBlock(raw, func(block *pem.Block) error {
		if block.Type == "EC PARAMETERS" { // openssl writes the curve's name before a SEC 1 key
			return nil
		}
		if out != nil {
			return errors.New("holds more than one key")
		}
		key, err := parseKeyBlock(block)
		out = key
		return err
	})
	if err == nil && out == nil {
		err = errors.New("holds no private key")
	}
	return out, err
}

func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("unexpected %q block", block.Type)
	}
	if err != nil {
		return nil, errors.New("the private key cannot be parsed") // the parser's words may quote it
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("key is a %T, ECDSA or RSA is wanted", key)
}

// eachBlock refuses bytes between or after the blocks that are no PEM, save white space.
func eachBlock(raw []byte, take func(*pem.Block) error) error {
	if len(raw) > maxPEM {
		return fmt.Errorf("has %d bytes, at most %d are expected", len(raw), maxPEM)
	}
	for {
		var block *pem.Block
		block, raw = pem.Decode(raw)
		if block == nil {
			break
		}
		if err := take(block); err != nil {
			return err
		}
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		return errors.New("has bytes that are not PEM")
	}
	return nil
}

// fits reports whether key is the private half of the certificate's.
func fits(cert *x509.Certificate, key crypto.Signer) bool {
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(key.Public())
}

// encodePEM is the certificates in PEM.
func encodePEM(certs []*x509.Certificate) string {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}
