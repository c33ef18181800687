package correlate

import (
	"hash/maphash"
	"math"
	"strings"

	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// rule is a correlation rule, ready to evaluate.
type rule struct {
	index  int
	level  int
	source *sigma.Correlation
	span   int64
	// least is how many are enough, for a condition of lower bounds alone;
	// atEnd says that the condition is looked at when the timespan is over.
	least float64
	atEnd bool
	// group and values read the group-by fields and the condition's fields, by
	// position of the rule in the correlation.
	group, values [][]reader
}

// reader reads one field from the records of any kind.
type reader [record.Kinds]*record.Field

// maxStages bounds how many rules a temporal_ordered correlation has: its state
// grows with the square.
const maxStages = 32

func (c *Correlator) compile(index int, r *sigma.Rule, refs []*sigma.Rule) (*rule, error) {
	s := r.Correlation
	ru := &rule{index: index, source: s, span: int64(s.Timespan)}
	lower := true
	for _, b := range s.Condition {
		switch b.Op {
		case sigma.Greater:
			ru.least = max(ru.least, math.Floor(b.Value)+1)
		case sigma.GreaterEqual:
			ru.least = max(ru.least, math.Ceil(b.Value))
		default:
			lower = false
		}
	}
	if s.Type == sigma.ValueSum { // not a count of things
		ru.least = 0
	}
	ru.atEnd = !lower || s.Type == sigma.ValueAvg || s.Type == sigma.ValuePercentile
	switch {
	case s.Type == sigma.TemporalOrdered && !lower:
		return nil, r.Fault(s.Pos, "the condition of a temporal_ordered correlation is gt or gte")
	case s.Type == sigma.TemporalOrdered && len(refs) > maxStages:
		return nil, r.Fault(s.Pos, "a temporal_ordered correlation has at most %d rules", maxStages)
	case (s.Type == sigma.Temporal || s.Type == sigma.TemporalOrdered) && lower && ru.least > float64(len(refs)):
		return nil, r.Fault(s.Pos, "of %d rules there are never %v", len(refs), ru.least)
	case ru.least > float64(c.limits.Items):
		return nil, r.Fault(s.Pos, "a count of %v: at most %d are kept", ru.least, c.limits.Items)
	}
	for pos, ref := range refs {
		group, err := readers(r, s.GroupBy, ref, pos)
		if err != nil {
			return nil, err
		}
		values, err := readers(r, s.Fields, ref, pos)
		if err != nil {
			return nil, err
		}
		ru.group, ru.values = append(ru.group, group), append(ru.values, values)
	}
	return ru, nil
}

// readers finds fields, or what an alias calls them, in the records of the rule
// at a position.
func readers(r *sigma.Rule, names []string, ref *sigma.Rule, pos int) ([]reader, error) {
	var out []reader
	for _, name := range names {
		if fields := r.Correlation.Aliases[name]; fields != nil {
			name = fields[r.Correlation.Rules[pos]]
		}
		var rd reader
		found := false
		for k := range record.Kinds {
			if f, ok := k.Any(name); ok {
				rd[k] = f
				found = found || k != record.AuditLine
			}
		}
		if !found && !hasAudit(ref) {
			return nil, r.Fault(r.Correlation.Pos, "no event of %q has a field %s", ref.Title, name)
		}
		out = append(out, rd)
	}
	return out, nil
}

// hasAudit says whether a rule, or one below it, is about audit records, which
// may have any field.
func hasAudit(r *sigma.Rule) bool {
	return r.Correlation != nil || r.Source.Service == "auditd" || r.Source.Category == "" && r.Source.Service == ""
}

// separator stands between the values of a key; what guests put in is escaped.
const separator = "\x00"

var unseparated = strings.NewReplacer("\x01", "\x01\x01", "\x00", "\x01\x02")
var separated = strings.NewReplacer("\x01\x01", "\x01", "\x01\x02", "\x00")

// key is the group of a match; ok is false where it is in none.
func (r *rule) key(pos int, it item) (string, bool) {
	return join(r.group[pos], it)
}

// value is what a match has in the condition's fields.
func (r *rule) value(pos int, it item) (string, bool) {
	return join(r.values[pos], it)
}

func join(readers []reader, it item) (string, bool) {
	if len(readers) == 0 {
		return "", true
	}
	var parts []string
	for _, rd := range readers {
		f := rd[it.kind]
		if f == nil {
			return "", false
		}
		v := f.Value(it.event)
		if v.State != record.Present {
			return "", false
		}
		parts = append(parts, unseparated.Replace(v.String()))
	}
	return strings.Join(parts, separator), true
}

// split gives the values of a key.
func split(key string, n int) []string {
	if n == 0 {
		return nil
	}
	parts := strings.Split(key, separator)
	for i, p := range parts {
		parts[i] = separated.Replace(p)
	}
	return parts
}

// number is the value of a match as a number.
func (r *rule) number(pos int, it item) (float64, bool) {
	f := r.values[pos][0][it.kind]
	if f == nil {
		return 0, false
	}
	return f.Value(it.event).Float()
}

// seed makes hashes that a guest cannot foresee.
var seed = maphash.MakeSeed()

func hash(key string) uint64 { return maphash.String(seed, key) }
