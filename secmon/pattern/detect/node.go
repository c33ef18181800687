package detect

import (
	"net/netip"
	"strings"
	"time"

	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// node is an expression over the fields of one program.
type node interface{ eval(*state) bool }

type (
	always  bool // the same for every record
	and     []node
	or      []node
	not     struct{ x node }
	textual struct {
		field int
		test  *sigma.Text
	}
	regexped struct {
		field int
		test  *sigma.Regexp
	}
	inNetwork struct {
		field int
		test  sigma.CIDR
	}
	compared struct {
		field int
		test  sigma.Compare
	}
	dated struct {
		field int
		test  sigma.DatePart
	}
	isNull struct{ field int }
	exists struct {
		field int
		want  bool
	}
	referred struct {
		field, other int
		test         sigma.FieldRef
	}
)

func (n always) eval(*state) bool { return bool(n) }

func (n and) eval(s *state) bool {
	for _, x := range n {
		if !x.eval(s) {
			return false
		}
	}
	return true
}

func (n or) eval(s *state) bool {
	for _, x := range n {
		if x.eval(s) {
			return true
		}
	}
	return false
}

func (n not) eval(s *state) bool { return !n.x.eval(s) }

// An empty value is a text of no characters to a text, and no value to null.
func (n textual) eval(s *state) bool {
	if s.value(n.field).State == record.Absent {
		return false
	}
	if n.test.Cased {
		return n.test.Match(s.text(n.field))
	}
	return n.test.Match(s.fold(n.field))
}

func (n regexped) eval(s *state) bool {
	return s.value(n.field).State != record.Absent && n.test.MatchString(s.text(n.field))
}

func (n inNetwork) eval(s *state) bool {
	v := s.value(n.field)
	if v.State != record.Present {
		return false
	}
	a := v.Addr
	if v.Form != record.Addr {
		var err error
		if a, err = netip.ParseAddr(strings.TrimSpace(s.text(n.field))); err != nil {
			return false
		}
	}
	return n.test.Contains(a.Unmap())
}

func (n compared) eval(s *state) bool {
	v := s.value(n.field)
	if v.State != record.Present {
		return false
	}
	f, ok := v.Float()
	return ok && n.test.Op.Holds(f, n.test.Value)
}

func (n dated) eval(s *state) bool {
	v := s.value(n.field)
	if v.State != record.Present {
		return false
	}
	t := time.Unix(0, v.Time).UTC()
	if v.Form != record.Time {
		var err error
		if t, err = parseTime(s.text(n.field)); err != nil {
			return false
		}
	}
	_, week := t.ISOWeek()
	part := map[string]int{
		"minute": t.Minute(), "hour": t.Hour(), "day": t.Day(), "week": week, "month": int(t.Month()), "year": t.Year(),
	}[n.test.Part]
	return n.test.Op.Holds(float64(part), float64(n.test.Value))
}

// parseTime reads the forms of time that logs have.
func parseTime(s string) (t time.Time, err error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05"} {
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return t, err
}

func (n isNull) eval(s *state) bool { return s.value(n.field).State != record.Present }

func (n exists) eval(s *state) bool { return s.value(n.field).State != record.Absent == n.want }

func (n referred) eval(s *state) bool {
	if s.value(n.field).State == record.Absent || s.value(n.other).State == record.Absent {
		return false
	}
	if n.test.Cased {
		return n.test.Where.Match(s.text(n.field), s.text(n.other))
	}
	return n.test.Where.Match(s.fold(n.field), s.fold(n.other))
}
