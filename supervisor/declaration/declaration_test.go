package declaration

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const whole = `
name: web
image: oci:layout:latest
overlay: written.img
command: [sh, -c, "exec httpd -f\n"]
env: {MODE: fast}
workdir: /srv
user: nobody
cpus: 2
cpu_weight: 200
cpu_max: 1.5
memory: 128M:512M
watchdog: kill
disks: [data.img]
shares: ["/srv/www:/srv:ro"]
nets: ["tap:t0,ip=10.0.0.2/24"]
pmems: [root.erofs]
ports: ["log=unix:log.sock"]
secrets: [db, api.token]
lan: {vlan: front, address: 10.1.0.9, publish: "127.0.0.1:8080:80", allow: [{from: [api], http: {method: GET}}, {to: db, ports: tcp/5432}], egress: [{to: deb.debian.org}], rate: 10MB, priority: 1}
on_demand: {idle: 5m, wait: 1m, sockets: ["web.sock:80"]}
health: {command: [wget, -q, "http://localhost"], interval: 10s, timeout: 2s, retries: 2, start_period: 1m}
restart: {policy: on-failure, delay: 2s, max_delay: 1m, limit: 5}
stop_timeout: 20s
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	sec := func(n int) Duration { return Duration(time.Duration(n) * time.Second) }
	addresses := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	want := Service{
		Name: "web", Image: "oci:layout:latest", Overlay: "written.img", Command: []string{"sh", "-c", "exec httpd -f\n"}, Env: map[string]string{"MODE": "fast"}, Workdir: "/srv", User: "nobody",
		CPUs: 2, CPUWeight: 200, CPUMax: 1.5, Memory: Memory{128 << 20, 512 << 20}, Watchdog: "kill",
		Attachments: Attachments{
			Disks: []string{"data.img"}, Shares: []string{"/srv/www:/srv:ro"}, Nets: []string{"tap:t0,ip=10.0.0.2/24"},
			Pmems: []string{"root.erofs"}, Ports: []string{"log=unix:log.sock"},
		},
		Secrets: []string{"db", "api.token"},
		LAN: &LAN{
			VLAN: "front", Address: netip.MustParseAddr("10.1.0.9"), Publish: List{"127.0.0.1:8080:80"},
			Allow:  []Allow{{From: List{"api"}, HTTP: &HTTP{Method: List{"GET"}}}, {To: List{"db"}, Ports: List{"tcp/5432"}}},
			Egress: []Egress{{To: List{"deb.debian.org"}}}, Rate: "10MB", Priority: 1,
		},
		OnDemand:    &OnDemand{Idle: sec(300), Wait: sec(60), Sockets: []string{"web.sock:80"}},
		Health:      &Health{Command: []string{"wget", "-q", "http://localhost"}, Interval: sec(10), Timeout: sec(2), Retries: 2, StartPeriod: sec(60)},
		Restart:     Restart{Policy: RestartOnFailure, Delay: sec(2), MaxDelay: sec(60), Limit: 5},
		StopTimeout: sec(20),
	}
	if d := cmp.Diff(want, got, addresses); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, got.WithDefaults(), addresses); d != "" {
		t.Errorf("defaults changed what was said (-want +got):\n%s", d)
	}
	least, err := Parse([]byte("name: a"))
	if err != nil {
		t.Fatal(err)
	}
	if full := least.WithDefaults(); full.CPUs != 1 || full.StopTimeout != Duration(DefaultStopTimeout) || full.Restart.Policy != RestartNever || full.Restart.Delay == 0 {
		t.Errorf("%+v", full)
	}
}

// hostile are declarations that are refused, with what the error says.
var hostile = map[string]string{
	"":                                                  "name",
	"name: supervisor":                                  "the VM which decides",
	"name: ../etc":                                      "letters a to z",
	"name: a/b":                                         "letters a to z",
	"name: -a":                                          "letters a to z",
	"name: \"a\\0\"":                                    "letters a to z",
	"name: " + strings.Repeat("a", 64):                  "letters a to z",
	"name: a\ncolour: red":                              "colour",
	"name: a\nname: b":                                  "name",
	"name: a\ncpus: -1":                                 "cpus",
	"name: a\ncpus: 100000":                             "cpus",
	"name: a\ncpus: 2\ncpus_min: 3":                     "at most 2",
	"name: a\npriority: -1001":                          "-1000 to 1000",
	"name: a\ncpu_max: .nan":                            "cpu_max",
	"name: a\ncpu_max: .inf":                            "cpu_max",
	"name: a\nmemory: lots":                             "as in 512M",
	"name: a\nmemory: 1M":                               "32M",
	"name: a\nmemory: [1, 2]":                           "one value",
	"name: a\nmemory: 2G:1G":                            "smaller size first",
	"name: a\ncommand: {a: b}":                          "command",
	"name: a\ncommand: ['']":                            "empty",
	"name: a\ncommand: [\"a\\0b\"]":                     "control characters",
	"name: a\nworkdir: etc":                             "absolute",
	"name: a\nenv: {'A=B': c}":                          "name of a variable",
	"name: a\ndisks: [\"/dev/sda\\u001b[\"]":            "control characters",
	"name: a\ndisks: [\"\"]":                            "empty",
	"name: a\nshares: [\"a\\nb:/x\"]":                   "control characters",
	"name: a\nwatchdog: bark":                           "one of",
	"name: a\nhealth: {interval: 1s}":                   "command",
	"name: a\nhealth: {command: [x], interval: 0s}":     "a time",
	"name: a\nhealth: {command: [x], interval: soon}":   "a time",
	"name: a\nhealth: {command: [x], timeout: 100000h}": "at most",
	"name: a\nrestart: {policy: sometimes}":             "one of",
	"name: a\nrestart: {delay: 1s}":                     "policy",
	"name: a\nrestart: {policy: always, delay: 2s, max_delay: 1s}":   "less than",
	"name: a\nstop_timeout: -1s":                                     "a time",
	"name: a\nports: [" + strings.Repeat("x,", 65) + "]":             "at most 64",
	"name: a\nimage: ./x.tar":                                        "say of what kind",
	"name: a\nimage: /x":                                             "say of what kind",
	"name: a\nimage: Upper/Case":                                     "registry's reference",
	"name: a\nimage: 'a b'":                                          "registry's reference",
	"name: a\nimage: \"a\\u001b[\"":                                  "control characters",
	"name: a\nimage: 'oci:'":                                         "registry's reference",
	"name: a\nimage: a@sha256:0":                                     "registry's reference",
	"name: a\nimage: [a]":                                            "image",
	"name: a\noverlay: x":                                            "give one",
	"name: a\nimage: b\noverlay: \"a\\0\"":                           "control characters",
	"name: a\nsecrets: [../x]":                                       "a name has letters",
	"name: a\nsecrets: [a, a]":                                       "twice",
	"name: a\nsecrets: {a: b}":                                       "secrets",
	"name: a\nlan: {vlan: b, colour: red}":                           "colour",
	"name: a\nlan: {vlan: b, address: 10.1}":                         "10.1",
	"name: a\nlan: {vlan: b, priority: 3}":                           "at most 2",
	"name: a\nlan: {vlan: b, publish: \"80\\e[\"}":                   "control characters",
	"name: a\nlan: {vlan: b, publish: '8080'}":                       "as in 127.0.0.1:8080:80",
	"name: a\nlan: {vlan: b, publish: ['[::1]:80:80', 'web:80:80']}": "lan.publish[1]",
	"name: a\nlan: {vlan: b, publish: '127.0.0.1:80:0'}":             "give ADDRESS:PORT:PORT",
	"name: a\nlan: {vlan: b, allow: [{ports: all}]}":                 "the other end is the service itself",
	"name: a\nlan: {allow: [{from: b, to: c, ports: all}]}":          "the other end is the service itself",
	"name: a\nlan: {vlan: b, egress: [{to: ['']}]}":                  "empty",
	"name: a\non_demand: {idle: 1m}":                                 "nothing leads to it",
	"name: a\nlan: {mirror: b}\non_demand: {idle: 1m}":               "nothing leads to it",
	"[1, 2]":     "",
	"name: [":    "",
	"a: &a [*a]": "",
}

// TestWays has each of what leads to a service be enough for it to be started on demand.
func TestWays(t *testing.T) {
	for _, src := range []string{
		"name: a\non_demand: {sockets: ['a.sock:80']}", "name: a\nlan: {vlan: b}\non_demand: {idle: 1m}",
		"name: a\nlan: {trunk: [b]}\non_demand: {}", "name: a\nlan: {vlan: b, publish: '127.0.0.1:8080:80'}\non_demand: {}",
	} {
		if _, err := Parse([]byte(src)); err != nil {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for src, says := range hostile {
		_, err := Parse([]byte(src))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: error %v, want one that says %q", src, err, says)
		} else if strings.ContainsAny(err.Error(), "\x00\x1b") {
			t.Errorf("%q: the error has control characters: %q", src, err)
		}
	}
}

// An error shows the line, and all that is wrong is said at once.
func TestErrorsShowTheirPlace(t *testing.T) {
	for src, says := range map[string][]string{
		"name: a\ncpus: 1\nmemory: lots\n":                     {"> 3 | memory: lots", "^"},
		"name: a\nhealth:\n  command: [x]\n  interval: soon\n": {"> 4 |   interval: soon", "^"},
		"name: A\nrestart:\n  policy: sometimes\n":             {"> 1 | name: A", ">  3 |   policy: sometimes", "^", "name:", "restart.policy:"},
		"name: a\ncommand: [sh, \"\\u0007\"]\n":                {"> 2 | command", "command[1]: "},
		"name: a\ncolour: red\n":                               {"> 2 | colour: red", "^"},
		"name: a\nimage: ./x\n":                                {"> 2 | image: ./x", "^"},
		"name: a\nsecrets: [a, b/c]\n":                         {"> 2 | secrets", "^", "secrets[1]"},
	} {
		_, err := Parse([]byte(src))
		if err == nil {
			t.Errorf("%q: no error", src)
			continue
		}
		for _, s := range says {
			if !strings.Contains(strings.ReplaceAll(err.Error(), ">  ", "> "), strings.ReplaceAll(s, ">  ", "> ")) {
				t.Errorf("%q: the error lacks %q:\n%v", src, s, err)
			}
		}
	}
}

func TestResolve(t *testing.T) {
	s := Service{Name: "a", Attachments: Attachments{
		Disks: []string{"d:ro", "/e"}, Shares: []string{"./f:/x", "/g:/y:ro"}, Pmems: []string{"h"}, Ports: []string{"log=unix:i", "x=unix:/j", "odd"}, Nets: []string{"tap:t0"},
	}}
	s.Image, s.Overlay = "oci:layout:v1", "written"
	s.Resolve("/base")
	if s.Image != "oci:/base/layout:v1" || s.Overlay != "/base/written" {
		t.Errorf("image %s, overlay %s", s.Image, s.Overlay)
	}
	want := Attachments{
		Disks: []string{"/base/d:ro", "/e"}, Shares: []string{"/base/./f:/x", "/g:/y:ro"}, Pmems: []string{"/base/h"},
		Ports: []string{"log=unix:/base/i", "x=unix:/j", "odd"}, Nets: []string{"tap:t0"},
	}
	if d := cmp.Diff(want, s.Attachments); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadFile(file); err != nil || s.Name != "web" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.Truncate(file, MaxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(file); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file that is too long: %v", err)
	}
	if _, err := ReadFile(filepath.Join(dir, "absent")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	for src := range hostile {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := Parse(src)
		if err == nil && s.Check() != nil {
			t.Errorf("%+v was accepted", s)
		}
	})
}
