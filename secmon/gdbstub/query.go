package gdbstub

import (
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// query are the questions and settings with a name (GDB manual, E.4 "General
// Query Packets").
func (s *session) query(p string) error {
	name, args, _ := strings.Cut(p, ":")
	switch {
	case name == "qSupported":
		return s.answer(s.supported(args))
	case p == "QStartNoAckMode":
		s.c.bare.Store(true) // before the other side can know
		return s.answer(ok)
	case p == "qC":
		return s.answer(fmt.Sprintf("QC%x", s.thread))
	case name == "qAttached":
		return s.answer("1") // it was running before
	case p == "qfThreadInfo":
		return s.answer("m" + s.threadList())
	case p == "qsThreadInfo":
		return s.answer("l")
	case strings.HasPrefix(p, "qThreadExtraInfo,"):
		return s.answer(s.extraInfo(p[len("qThreadExtraInfo,"):]))
	case name == "qXfer":
		return s.c.send(s.transfer(args))
	case name == "qSymbol":
		return s.answer(ok) // there is none that we want to know
	}
	return s.answer(unknown)
}

// supported tells what this side can do. What of it depends on the other side
// is done only if that has said so.
func (s *session) supported(features string) string {
	for f := range strings.SplitSeq(features, ";") {
		switch f {
		case "swbreak+":
			s.swbreak = true
		case "hwbreak+":
			s.hwbreak = true
		}
	}
	return fmt.Sprintf("PacketSize=%x;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+;qXfer:features:read+;qXfer:threads:read+;qXfer:exec-file:read+", packetSize)
}

func (s *session) extraInfo(id string) string {
	if n, valid := parseThread(id); valid {
		for _, t := range s.t.Threads() {
			if t.ID == n {
				return hex.EncodeToString([]byte(t.Name + " " + t.Extra))
			}
		}
	}
	return errorBad
}

// transfer is qXfer: object:read:annex:offset,length.
func (s *session) transfer(args string) []byte {
	part := strings.SplitN(args, ":", 4)
	if len(part) != 4 || part[1] != "read" {
		return nil
	}
	off, n, valid := parsePair(part[3])
	if !valid {
		return []byte(errorBad)
	}
	var object string
	switch {
	case part[0] == "features" && part[2] == "target.xml":
		object = s.xml
	case part[0] == "threads" && part[2] == "":
		object = s.threadsXML()
	case part[0] == "exec-file":
		if object = s.t.Executable(); object == "" {
			return []byte(errorBad)
		}
	case part[0] == "features":
		return []byte("E00")
	default:
		return nil
	}
	return piece([]byte(object), off, n)
}

// piece is the part of an object that was asked for: l before the last, m before
// others.
func piece(object []byte, off, n uint64) []byte {
	rest := object[min(off, uint64(len(object))):]
	if n = min(n, maxMemory); n < uint64(len(rest)) {
		return append([]byte{'m'}, rest[:n]...)
	}
	return append([]byte{'l'}, rest...)
}

func (s *session) threadsXML() string {
	type thread struct {
		ID   string `xml:"id,attr"`
		Core int    `xml:"core,attr"`
		Name string `xml:"name,attr"`
		Text string `xml:",chardata"`
	}
	var list struct {
		XMLName xml.Name `xml:"threads"`
		Threads []thread `xml:"thread"`
	}
	for i, t := range s.t.Threads() {
		list.Threads = append(list.Threads, thread{strconv.FormatInt(int64(t.ID), 16), i, t.Name, t.Extra})
	}
	b, err := xml.Marshal(list)
	if err != nil {
		return "" // which these values can't give
	}
	return string(b)
}

// registerSizes are the bytes of each register of a target description, in its
// order, which is GDB's where no numbers are given.
func registerSizes(description string) ([]int, error) {
	var target struct {
		Features []struct {
			Registers []struct {
				Name string `xml:"name,attr"`
				Bits int    `xml:"bitsize,attr"`
			} `xml:"reg"`
		} `xml:"feature"`
	}
	d := xml.NewDecoder(strings.NewReader(description))
	if err := d.Decode(&target); err != nil {
		return nil, fmt.Errorf("gdbstub: target description: %w", err)
	}
	var sizes []int
	for _, f := range target.Features {
		for _, r := range f.Registers {
			if r.Bits <= 0 || r.Bits%8 != 0 {
				return nil, fmt.Errorf("gdbstub: target description: register %q of %d bits", r.Name, r.Bits)
			}
			sizes = append(sizes, r.Bits/8)
		}
	}
	return sizes, nil
}
