package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// MarshalJSON writes the event with the field names of the Elastic Common
// Schema 8. What the schema has no name for is under "warder". Strings from a
// guest are escaped as JSON demands; bytes that are not UTF-8 are replaced, the
// exact bytes of a payload are in base64.
func (e Event) MarshalJSON() ([]byte, error) {
	l, err := toLine(e)
	if err != nil {
		return nil, err
	}
	return json.Marshal(l)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Event) UnmarshalJSON(p []byte) error {
	var l line
	if err := json.Unmarshal(p, &l); err != nil {
		return err
	}
	got, err := l.event()
	if err != nil {
		return err
	}
	*e = got
	return nil
}

// ecsVersion is the version of the schema that field names are from.
const ecsVersion = "8.11.0"

type line struct {
	Timestamp time.Time  `json:"@timestamp"`
	ECS       ecsMeta    `json:"ecs"`
	Message   string     `json:"message,omitempty"`
	Event     ecsEvent   `json:"event"`
	Host      *ecsHost   `json:"host,omitempty"`
	Process   *ecsProc   `json:"process,omitempty"`
	User      *ecsUser   `json:"user,omitempty"`
	File      *ecsFile   `json:"file,omitempty"`
	Rule      *ecsRule   `json:"rule,omitempty"`
	Warder    warderPart `json:"warder"`
}

type ecsMeta struct {
	Version string `json:"version"`
}

type ecsEvent struct {
	Kind     string   `json:"kind"`
	Category []string `json:"category,omitempty"`
	Type     []string `json:"type,omitempty"`
	Action   string   `json:"action"`
	Sequence uint64   `json:"sequence,omitempty"`
}

type ecsHost struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type ecsProc struct {
	PID    uint32    `json:"pid"`
	Name   string    `json:"name"`
	Thread ecsThread `json:"thread"`
	Parent ecsParent `json:"parent"`
}

type ecsThread struct {
	ID uint32 `json:"id"`
}

type ecsParent struct {
	PID uint32 `json:"pid"`
}

type ecsUser struct {
	ID        string   `json:"id"`
	Effective *ecsUser `json:"effective,omitempty"`
}

type ecsFile struct {
	Path  string `json:"path"`
	Inode string `json:"inode,omitempty"`
	Size  int64  `json:"size,omitempty"`
}

type ecsRule struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type warderPart struct {
	VCPU     int32      `json:"vcpu"`
	Syscall  *callPart  `json:"syscall,omitempty"`
	Lost     uint64     `json:"lost,omitempty"`
	Level    string     `json:"level,omitempty"`
	VMs      []string   `json:"vms,omitempty"`
	Acts     []Event    `json:"acts,omitempty"`
	Matched  []string   `json:"matched,omitempty"`
	Response string     `json:"response,omitempty"`
	Share    *sharePart `json:"share,omitempty"`
	FS       string     `json:"filesystem,omitempty"`
	Inner    string     `json:"inner_path,omitempty"`
	Absent   bool       `json:"absent,omitempty"`
}

type sharePart struct {
	Directory string `json:"directory"`
	Device    uint64 `json:"device,omitempty"`
}

type callPart struct {
	Name    string    `json:"name"`
	Number  uint32    `json:"number"`
	Args    [6]string `json:"args"`
	FD      int32     `json:"fd"`
	Path    string    `json:"path,omitempty"`
	Flags   uint32    `json:"flags,omitempty"`
	Offset  int64     `json:"offset"`
	Append  bool      `json:"append,omitempty"`
	Size    uint64    `json:"size,omitempty"`
	Payload []byte    `json:"payload,omitempty"`
	Missing []string  `json:"missing,omitempty"`
	Denied  uint16    `json:"denied_errno,omitempty"`
}

// kinds gives event.kind and event.action of the kinds that fix them.
var kinds = map[Kind]ecsEvent{
	Lifecycle: {Kind: "event", Category: []string{"host"}, Type: []string{"info"}, Action: "lifecycle"},
	Syscall:   {Kind: "event"},
	Alert:     {Kind: "alert", Category: []string{"intrusion_detection"}, Type: []string{"info"}, Action: "alert"},
	Loss:      {Kind: "pipeline_error", Action: "events-lost"},
}

func toLine(e Event) (line, error) {
	ev, ok := kinds[e.Kind]
	if !ok {
		return line{}, fmt.Errorf("event of unknown kind %d", e.Kind)
	}
	ev.Sequence = e.Seq
	l := line{
		Timestamp: time.Unix(0, e.Time).UTC(),
		ECS:       ecsMeta{ecsVersion},
		Message:   e.Message,
		Event:     ev,
		Warder:    warderPart{VCPU: e.VCPU, Lost: e.Lost},
	}
	if e.VM != "" {
		l.Host = &ecsHost{e.VM, "vm"}
	}
	switch e.Kind {
	case Syscall:
		l.addCall(e)
	case Alert:
		if f := e.Finding; f != nil {
			l.Rule = &ecsRule{f.RuleID, f.RuleTitle}
			l.Warder.Level, l.Warder.VMs, l.Warder.Acts = f.Level, f.VMs, f.Acts
			l.Warder.Matched, l.Warder.Response = f.Matched, f.Response
		}
	}
	return l, nil
}

func (l *line) addCall(e Event) {
	c := &e.Call
	l.Event.Action = c.Name
	switch c.Name {
	case "execve", "execveat":
		l.Event.Category, l.Event.Type = []string{"process"}, []string{"start"}
	case "openat":
		l.Event.Category, l.Event.Type = []string{"file"}, []string{"access"}
	case "write", "pwrite64", "writev", "pwritev", "pwritev2":
		l.Event.Category, l.Event.Type = []string{"file"}, []string{"change"}
	}
	if c.Denied != 0 {
		l.Event.Type = append(l.Event.Type, "denied")
	}
	if c.Missing&MissingProcess == 0 {
		p := e.Process
		l.Process = &ecsProc{p.PID, p.Name, ecsThread{p.TID}, ecsParent{p.Parent}}
		l.User = &ecsUser{ID: id(p.UID), Effective: &ecsUser{ID: id(p.EUID)}}
	}
	if f := c.File; f != (File{}) {
		l.File = &ecsFile{Path: f.Path, Size: f.Size}
		if f.Inode != 0 {
			l.File.Inode = strconv.FormatUint(f.Inode, 10)
		}
		l.Warder.FS, l.Warder.Inner, l.Warder.Absent = f.FS, f.Inner, f.Absent
		if f.Share != "" {
			l.Warder.Share = &sharePart{f.Share, f.Device}
		}
	}
	part := &callPart{
		Name: c.Name, Number: c.Number, FD: c.FD, Path: c.Path, Flags: c.Flags, Offset: c.Offset,
		Append: c.Append, Size: c.Size, Payload: c.Payload, Missing: c.Missing.Names(), Denied: c.Denied,
	}
	for i, a := range c.Args {
		part.Args[i] = "0x" + strconv.FormatUint(a, 16)
	}
	l.Warder.Syscall = part
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func (l *line) event() (Event, error) {
	e := Event{
		Time: l.Timestamp.UnixNano(), Seq: l.Event.Sequence, VCPU: l.Warder.VCPU,
		Message: l.Message, Lost: l.Warder.Lost,
	}
	if l.Host != nil {
		e.VM = l.Host.Name
	}
	switch {
	case l.Event.Kind == "alert":
		e.Kind = Alert
		if l.Rule != nil {
			w := l.Warder
			e.Finding = &Finding{l.Rule.ID, l.Rule.Name, w.Level, w.VMs, w.Acts, w.Matched, w.Response}
		}
	case l.Event.Kind == "pipeline_error":
		e.Kind = Loss
	case l.Warder.Syscall != nil:
		e.Kind = Syscall
		return e, l.call(&e)
	case l.Event.Action == "lifecycle":
		e.Kind = Lifecycle
	default:
		return Event{}, fmt.Errorf("not an event of warder: kind %q, action %q", l.Event.Kind, l.Event.Action)
	}
	return e, nil
}

func (l *line) call(e *Event) error {
	s := l.Warder.Syscall
	e.Call = Call{
		Name: s.Name, Number: s.Number, FD: s.FD, Path: s.Path, Flags: s.Flags, Offset: s.Offset,
		Append: s.Append, Size: s.Size, Payload: s.Payload, Denied: s.Denied,
	}
	for i, a := range s.Args {
		v, err := strconv.ParseUint(a, 0, 64)
		if err != nil {
			return fmt.Errorf("warder.syscall.args: %w", err)
		}
		e.Call.Args[i] = v
	}
	for _, name := range s.Missing {
		i := slices.Index(missingNames[:], name)
		if i < 0 {
			return fmt.Errorf("warder.syscall.missing: unknown name %q", name)
		}
		e.Call.Missing |= 1 << i
	}
	if p := l.Process; p != nil {
		e.Process = Process{PID: p.PID, TID: p.Thread.ID, Parent: p.Parent.PID, Name: p.Name}
	}
	if u := l.User; u != nil && u.Effective != nil {
		uid, err := strconv.ParseUint(u.ID, 10, 32)
		euid, err2 := strconv.ParseUint(u.Effective.ID, 10, 32)
		if err != nil || err2 != nil {
			return fmt.Errorf("user.id: %q, %q are not numbers", u.ID, u.Effective.ID)
		}
		e.Process.UID, e.Process.EUID = uint32(uid), uint32(euid)
	}
	if f := l.File; f != nil {
		e.Call.File = File{Path: f.Path, Size: f.Size, FS: l.Warder.FS, Inner: l.Warder.Inner, Absent: l.Warder.Absent}
		if l.Warder.Share != nil {
			e.Call.File.Share, e.Call.File.Device = l.Warder.Share.Directory, l.Warder.Share.Device
		}
		if f.Inode != "" {
			n, err := strconv.ParseUint(f.Inode, 10, 64)
			if err != nil {
				return fmt.Errorf("file.inode: %w", err)
			}
			e.Call.File.Inode = n
		}
	}
	return nil
}
