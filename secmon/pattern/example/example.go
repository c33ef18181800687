// Package example makes events that detection rules match, each from its rule
// alone, for trying and measuring rules that have no samples.
package example

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"warder/secmon/event"
	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// maxWays bounds how many ways to satisfy a condition are tried.
const maxWays = 256

// Of makes an event that a detection rule matches: for each way to satisfy its
// condition it sets the fields that the way asks for, until one is right.
func Of(r *sigma.Rule) (*event.Event, error) {
	from, wrong := record.Select(r.Source)
	if wrong != "" {
		return nil, fmt.Errorf("%s", wrong)
	}
	for _, k := range from.Kinds {
		for _, way := range ways(r.Detection.Expr, k, true, maxWays) {
			if e := way.event(k, r.Source.Service); e != nil && detect.Plain(r, e) {
				return e, nil
			}
		}
	}
	return nil, fmt.Errorf("no event found that %s matches", r.Title)
}

// way is values of fields, a part each of several tests of the same field.
type way map[string][]string

// ways lists ways to make x true, or false.
func ways(x sigma.Expr, k record.Kind, want bool, limit int) []way {
	switch x := x.(type) {
	case sigma.Not:
		return ways(x.X, k, !want, limit)
	case sigma.And:
		return combine(x, k, want, want, limit)
	case sigma.Or:
		return combine(x, k, want, !want, limit)
	}
	if !want {
		return []way{{}} // an event of nothing else seldom matches by accident
	}
	m := x.(*sigma.Match)
	name := m.Field
	if name == "" {
		if len(k.Texts()) == 0 {
			return nil
		}
		name = k.Texts()[0]
	}
	v, ok := example(m.Test)
	if !ok {
		return nil
	}
	return []way{{name: {v}}}
}

func combine(parts []sigma.Expr, k record.Kind, want, all bool, limit int) []way {
	out := []way{{}}
	if !all {
		out = nil
	}
	for _, p := range parts {
		more := ways(p, k, want, limit)
		if !all {
			out = append(out, more...)
			continue
		}
		var next []way
		for _, a := range out {
			for _, b := range more {
				if len(next) == limit {
					break
				}
				w := maps.Clone(a)
				for name, values := range b {
					w[name] = append(slices.Clip(w[name]), values...)
				}
				next = append(next, w)
			}
		}
		out = next
	}
	return out[:min(len(out), limit)]
}

// example is a value that a test holds for; * stands where more may come.
func example(t sigma.Test) (string, bool) {
	switch t := t.(type) {
	case *sigma.Text:
		var b strings.Builder
		for _, p := range t.Parts {
			b.WriteString(map[sigma.PartKind]string{sigma.Literal: p.Literal, sigma.One: "x", sigma.Many: "\x01", sigma.Dash: "-"}[p.Kind])
		}
		return b.String(), true
	case *sigma.Regexp:
		re, err := syntax.Parse(t.String(), syntax.Perl)
		if err != nil {
			return "", false
		}
		return "\x01" + sample(re.Simplify()) + "\x01", true
	case sigma.CIDR:
		return t.Addr().String(), true
	case sigma.Compare:
		n := t.Value
		switch t.Op {
		case sigma.Greater:
			n++
		case sigma.Less:
			n--
		}
		return strconv.FormatFloat(n, 'f', -1, 64), true
	case sigma.Exists:
		return "x", bool(t)
	case sigma.Null:
		return "", true
	}
	return "", false
}

// sample is a text that an expression matches.
func sample(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			if r := max(re.Rune[i], ' '); r <= re.Rune[i+1] {
				return string(r)
			}
		}
		return ""
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "x"
	case syntax.OpCapture, syntax.OpPlus, syntax.OpAlternate:
		return sample(re.Sub[0])
	case syntax.OpRepeat:
		return strings.Repeat(sample(re.Sub[0]), re.Min)
	case syntax.OpConcat:
		var b strings.Builder
		for _, sub := range re.Sub {
			b.WriteString(sample(sub))
		}
		return b.String()
	}
	return ""
}

// join makes one value of what several tests want of a field: what is at both
// ends open goes between what is open at one.
func join(values []string) string {
	slices.SortStableFunc(values, func(a, b string) int { return place(a) - place(b) })
	s := strings.Join(slices.Compact(values), "\x01")
	s = strings.Trim(s, "\x01")
	for strings.Contains(s, "\x01\x01") {
		s = strings.ReplaceAll(s, "\x01\x01", "\x01")
	}
	return strings.ReplaceAll(s, "\x01", " ")
}

func place(v string) int {
	switch open, end := strings.HasPrefix(v, "\x01"), strings.HasSuffix(v, "\x01"); {
	case !open:
		return 0
	case end:
		return 1
	}
	return 2
}

// set gives the event's field behind a record's.
var set = map[record.Kind]map[string]func(e *event.Event, v string){
	record.Process: {
		"Image": func(e *event.Event, v string) { e.Process.Exe = v }, "CommandLine": func(e *event.Event, v string) { e.Process.Args = v },
		"CurrentDirectory": func(e *event.Event, v string) { e.Process.Dir = v }, "ParentImage": func(e *event.Event, v string) { e.Process.ParentExe = v },
		"ParentCommandLine": func(e *event.Event, v string) { e.Process.ParentArgs = v }, "User": func(e *event.Event, v string) { e.Process.User = v },
		"LogonId": func(e *event.Event, v string) { e.Process.Login, e.Process.LoggedIn = uint32(decimal(v)), true },
	},
	record.File: {
		"TargetFilename": func(e *event.Event, v string) { e.Call.File.Path = v }, "Image": func(e *event.Event, v string) { e.Process.Exe = v },
	},
	record.Connect: {
		"Image": func(e *event.Event, v string) { e.Process.Exe = v }, "DestinationHostname": func(e *event.Event, v string) { e.Net.Host = v },
		"Initiated": func(e *event.Event, v string) { e.Net.Initiated = v == "true" },
		"DestinationIp": func(e *event.Event, v string) {
			if a, err := netip.ParseAddr(v); err == nil {
				e.Net.Destination = netip.AddrPortFrom(a, e.Net.Destination.Port())
			}
		},
		"DestinationPort": func(e *event.Event, v string) {
			a := e.Net.Destination.Addr()
			if !a.IsValid() {
				a = netip.MustParseAddr("192.0.2.1")
			}
			e.Net.Destination = netip.AddrPortFrom(a, uint16(decimal(v)))
		},
	},
	record.AuditSyscall: {
		"type": ignore, "SYSCALL": func(e *event.Event, v string) { e.Call.Name = v }, "comm": func(e *event.Event, v string) { e.Process.Name = v },
		"exe": func(e *event.Event, v string) { e.Process.Exe = v }, "euid": func(e *event.Event, v string) { e.Process.EUID = uint32(decimal(v)) },
		"a0": func(e *event.Event, v string) { e.Call.Args[0] = decimal(v) },
	},
	record.AuditExecve: {"type": ignore, "argv": func(e *event.Event, v string) { e.Process.Args = strings.ReplaceAll(v, " ", "\x00") + "\x00" }},
	record.AuditPath:   {"type": ignore, "name": func(e *event.Event, v string) { e.Call.File.Path, e.Call.Path = v, v }, "nametype": func(e *event.Event, v string) { e.Call.File.Absent = v == "create" }},
	record.Log:         {"message": func(e *event.Event, v string) { e.Log.Text = v }},
}

func ignore(*event.Event, string) {}

func decimal(v string) uint64 {
	n, _ := strconv.ParseUint(v, 10, 64)
	return n
}

// event makes an event whose record of kind k has the way's values, nil where
// that cannot be.
func (w way) event(k record.Kind, service string) *event.Event {
	e := &event.Event{Kind: event.Syscall, VM: "a", Call: event.Call{Name: "uname"}}
	switch k {
	case record.Process, record.AuditExecve, record.AuditCwd:
		e.Call.Name = "execve"
	case record.File:
		e.Kind, e.Action = event.FileAct, event.Created
	case record.Connect:
		e.Kind, e.Action, e.Net = event.Flow, event.Began, &event.Net{}
	case record.AuditPath:
		e.Call.Name, e.Call.Path = "openat", "x"
	case record.Log:
		e.Kind, e.Log = event.LogLine, &event.Log{Program: map[string]string{"cron": "cron", "clamav": "clamd", "guacamole": "guacd"}[service]}
		if e.Log.Program == "" {
			e.Log.Program = service
		}
	case record.AuditLine:
		return w.auditLine()
	}
	if k == record.AuditExecve {
		return w.execve(e)
	}
	for name, values := range w {
		f := set[k][name]
		if f == nil {
			return nil
		}
		f(e, join(values))
	}
	return e
}

// execve gives an event the arguments a0, a1, ... that a way asks for.
func (w way) execve(e *event.Event) *event.Event {
	var argv []string
	for name, values := range w {
		n, err := strconv.Atoi(strings.TrimPrefix(name, "a"))
		switch {
		case name == "type":
		case name == "argv":
			argv = append(argv, strings.Split(join(values), " ")...)
		case err != nil:
			return nil
		default:
			for len(argv) <= n {
				argv = append(argv, "x")
			}
			argv[n] = join(values)
		}
	}
	e.Process.Args = strings.Join(argv, "\x00") + "\x00"
	return e
}

// auditLine makes a line of an audit log.
func (w way) auditLine() *event.Event {
	line := "type=" + strings.ToUpper(join(slices.Concat(w["type"], []string{}))) + " msg=audit(1:1):"
	for _, name := range slices.Sorted(maps.Keys(w)) {
		v := join(w[name])
		switch name {
		case "type":
		case "message":
			line += " " + v
		default:
			line += fmt.Sprintf(" %s=%q", name, v)
		}
	}
	return &event.Event{Kind: event.LogLine, VM: "a", Log: &event.Log{Program: "audit", Text: line}}
}
