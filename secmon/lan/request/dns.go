package request

import (
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/net/dns/dnsmessage"
)

var errQuestion = errors.New("no question of DNS")

// Question is the name that a message of DNS asks for. A message with more than one, or
// with what is no question, is none.
func Question(b []byte) (name string, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.Response || h.OpCode != 0 || len(b) > MaxQuestion {
		return "", errQuestion
	}
	q, err := p.Question()
	if err != nil {
		return "", errQuestion
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return "", errQuestion
	}
	if _, err := p.Answer(); err != dnsmessage.ErrSectionDone {
		return "", errQuestion
	}
	return q.Name.String(), nil
}

// Ask is why a message of DNS is not passed on, nil for a question that is allowed.
func Ask(b []byte, allowed func(name string) bool) *Refusal {
	name, err := Question(b)
	if err != nil {
		return &Refusal{why: err}
	}
	if !allowed(name) {
		return &Refusal{Name: name}
	}
	return nil
}

// MaxQuestion bounds a question in bytes.
const MaxQuestion = 1232

// RelayQuestions passes the questions of a connection of DNS on (RFC 1035, 4.2.2), as long
// as they are allowed.
func RelayQuestions(server io.Writer, client io.Reader, allowed func(name string) bool) error {
	b := make([]byte, 2+MaxQuestion)
	for first := true; ; first = false {
		if _, err := io.ReadFull(client, b[:2]); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		n := int(binary.BigEndian.Uint16(b))
		if n > MaxQuestion {
			return &Refusal{First: first, why: errQuestion}
		}
		if _, err := io.ReadFull(client, b[2:2+n]); err != nil {
			return err
		}
		if r := Ask(b[2:2+n], allowed); r != nil {
			r.First = first
			return r
		}
		if _, err := server.Write(b[:2+n]); err != nil {
			return err
		}
	}
}
