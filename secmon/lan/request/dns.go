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
		name, err := Question(b[2 : 2+n])
		if err != nil {
			return &Refusal{First: first, why: err}
		}
		if !allowed(name) {
			return &Refusal{First: first, why: errors.New("the name " + name + " is not declared")}
		}
		if _, err := server.Write(b[:2+n]); err != nil {
			return err
		}
	}
}
