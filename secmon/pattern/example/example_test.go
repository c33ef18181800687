package example_test

import (
	"testing"

	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/example"
	"warder/secmon/pattern/sigma"
)

func TestOf(t *testing.T) {
	for _, detection := range []string{
		"logsource: {category: process_creation}\ndetection:\n  s: {Image|endswith: '/a', CommandLine|contains|all: ['b', 'c']}\n  n: {ParentImage: /d}\n  condition: s and not n",
		"logsource: {service: auditd}\ndetection:\n  s: {type: EXECVE, a0: chmod, a1|contains: '+s'}\n  condition: s",
		"logsource: {service: auditd}\ndetection:\n  s: {type: SYSTEMCTL, unit: x}\n  condition: s",
		"logsource: {category: network_connection}\ndetection:\n  s: {DestinationPort|gt: 4000, DestinationIp|cidr: 10.0.0.0/8}\n  condition: s",
		"logsource: {category: file_event}\ndetection:\n  s: {TargetFilename|re: '^/etc/[a-c]+[.]d/x{3}$'}\n  condition: s",
		"logsource: {service: sshd}\ndetection:\n  s: ['one', 'two']\n  condition: all of s or s",
	} {
		rules, err := sigma.Parse("test.yml", []byte("title: t\n"+detection+"\n"), sigma.Options{})
		if err != nil {
			t.Fatal(err)
		}
		e, err := example.Of(rules[0])
		if err != nil {
			t.Errorf("%s\n%v", detection, err)
			continue
		}
		p, err := detect.Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Match(e, nil)) != 1 {
			t.Errorf("%s\nnot matched: %+v", detection, e)
		}
	}
	// Nothing can be made of these.
	for _, detection := range []string{
		"logsource: {category: process_creation}\ndetection:\n  s: {Image: a}\n  condition: s and not s",
	} {
		rules, err := sigma.Parse("test.yml", []byte("title: t\n"+detection+"\n"), sigma.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if e, err := example.Of(rules[0]); err == nil {
			t.Errorf("%s\nmade %+v", detection, e)
		}
	}
}
