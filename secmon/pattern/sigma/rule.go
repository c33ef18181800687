package sigma

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// Rule is one document of a rule file. Exactly one of Detection, Correlation
// and Filter is there.
type Rule struct {
	Pos  Pos
	ID   string // a UUID, or "" where the specification lets it be left out
	Name string // what correlations may call it, "" for none

	Title          string
	Status         string // one of Statuses, or ""
	Level          string // one of Levels, or ""
	Description    string
	License        string
	Author         string
	Date, Modified string
	References     []string
	Tags           []string
	FalsePositives []string
	Fields         []string
	Scope          []string

	// Source is the log source: of a detection and a filter, and of a
	// correlation that names one.
	Source LogSource

	Detection   *Detection
	Correlation *Correlation
	Filter      *Filter

	// Extension is the value of the top-level field "warder", which other
	// Sigma tools pass by; nil where there is none.
	Extension *Node

	src    *source
	digest [sha256.Size]byte // of all that the document says
}

// Fault makes an error that points at a place in the rule's file.
func (r *Rule) Fault(at Pos, format string, args ...any) error {
	return r.src.fail(at, format, args...)
}

// File is the name of the file that the rule was read from.
func (r *Rule) File() string { return r.src.name }

// Key is what other rules and alerts know the rule by: its id, else its name,
// else its title.
func (r *Rule) Key() string { return cmp.Or(r.ID, r.Name, r.Title) }

// Levels and Statuses are what a rule's level and status may be, in the order
// of the specification.
var (
	Levels   = []string{"informational", "low", "medium", "high", "critical"}
	Statuses = []string{"stable", "test", "experimental", "deprecated", "unsupported"}
)

// LogSource says which events a rule is about.
type LogSource struct {
	Category, Product, Service string
}

func (l LogSource) String() string {
	var parts []string
	for _, p := range [...][2]string{{"category", l.Category}, {"product", l.Product}, {"service", l.Service}} {
		if p[1] != "" {
			parts = append(parts, p[0]+"="+p[1])
		}
	}
	return strings.Join(parts, " ")
}

// Covers says whether every event of source m is one of l: a part that l does
// not name matches any.
func (l LogSource) Covers(m LogSource) bool {
	return (l.Category == "" || l.Category == m.Category) &&
		(l.Product == "" || l.Product == m.Product) &&
		(l.Service == "" || l.Service == m.Service)
}

// Detection is what one event must be like. The conditions of a rule that has
// several are alternatives.
type Detection struct {
	Expr Expr
}

// Correlation is what several events must be like together.
type Correlation struct {
	Pos  Pos
	Type string // one of the Sigma types below, or one with a prefix of its own
	// Rules are the names or ids of the rules whose matches are correlated, in
	// the order of the file. RulePos are their places.
	Rules    []string
	RulePos  []Pos
	GroupBy  []string // fields or aliases
	Timespan time.Duration
	// Condition is what the count, sum, average, percentile or number of
	// distinct rules must be: all of these hold.
	Condition []Bound
	// Fields are those of value_count, value_sum, value_avg and
	// value_percentile; more than one count as one combined value.
	Fields []string
	// Aliases are field names by alias and rule.
	Aliases map[string]map[string]string
	// Generate says that the correlated rules alert by themselves, too.
	Generate bool
	// Extra is the whole section of a type that is not Sigma's.
	Extra *Node
}

// The correlation types of the specification.
const (
	EventCount      = "event_count"
	ValueCount      = "value_count"
	ValueSum        = "value_sum"
	ValueAvg        = "value_avg"
	ValuePercentile = "value_percentile"
	Temporal        = "temporal"
	TemporalOrdered = "temporal_ordered"
)

// Filter narrows other rules: they match where their condition and the
// filter's both do.
type Filter struct {
	Pos     Pos
	Rules   []string // names or ids; none with Any
	RulePos []Pos
	Any     bool // every rule of the filter's log source
	Expr    Expr
}

// Pos is a place in a rule file, from 1.
type Pos struct{ Line, Column int }

// Error is a fault in a rule file and where it is.
type Error struct {
	File string
	Pos
	Message string
	Source  string // the line itself
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	if e.Source != "" {
		s += "\n    " + strings.ReplaceAll(e.Source, "\t", " ") + "\n    " + strings.Repeat(" ", max(e.Column-1, 0)) + "^"
	}
	return s
}
