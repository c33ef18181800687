package link

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// CredentialFile is where the supervisor's VM has its Credential.
const CredentialFile = "/etc/warder/supervisor.json"

// A Credential is what one end shows, and what it has to be shown.
type Credential struct {
	Certificate []byte `json:"certificate"` // DER
	Key         []byte `json:"key"`         // Ed25519's seed
	Peer        []byte `json:"peer"`        // the other end's certificate, DER
}

// NewCredentials makes those of one supervisor VM. They are good for nothing else,
// and forgotten with it.
func NewCredentials() (host, supervisor Credential, err error) {
	if host, err = newCredential("host", 1); err != nil {
		return host, supervisor, err
	}
	if supervisor, err = newCredential("supervisor", 2); err != nil {
		return host, supervisor, err
	}
	host.Peer, supervisor.Peer = supervisor.Certificate, host.Certificate
	return host, supervisor, nil
}

func newCredential(name string, serial int64) (Credential, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Credential{}, err
	}
	// No time is in it that could be wrong: the clock of a guest may be.
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{name}, NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	return Credential{Certificate: der, Key: private.Seed()}, err
}

// Encode puts a credential into a file.
func (c Credential) Encode() ([]byte, error) { return json.Marshal(c) }

// DecodeCredential reads what Encode wrote.
func DecodeCredential(p []byte) (c Credential, err error) {
	if err = json.Unmarshal(p, &c); err == nil && len(c.Key) != ed25519.SeedSize {
		err = fmt.Errorf("a key of %d bytes", len(c.Key))
	}
	return c, err
}

// errStranger is the error for a peer that shows another certificate.
var errStranger = errors.New("this is not the peer that the credentials were made for")

// Config is for tls.Client in the VM and tls.Server on the host. The peer is known by
// its certificate, byte by byte: no name, no date and no authority counts.
func (c Credential) Config() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{c.Certificate}, PrivateKey: ed25519.NewKeyFromSeed(c.Key)}},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // in favour of VerifyConnection, which looks at more
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 || !bytes.Equal(s.PeerCertificates[0].Raw, c.Peer) {
				return errStranger
			}
			return nil
		},
	}
}
