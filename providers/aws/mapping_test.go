package aws_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/providers/aws"
	"github.com/isthmus-mesh/isthmus/providers/aws/autoscaling"
	"github.com/isthmus-mesh/isthmus/providers/aws/cloudmap"
	"github.com/isthmus-mesh/isthmus/providers/aws/ec2"
	"github.com/isthmus-mesh/isthmus/providers/aws/ecs"
	"github.com/isthmus-mesh/isthmus/providers/aws/elb"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// cli is Amazon's own command line, which shares no code with the SDK for Go: what
// it makes and says is an independent witness of what the source publishes.
type cli struct {
	t    *testing.T
	bin  string
	base []string
}

func (c cli) run(into any, args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.bin, append(args, c.base...)...)
	// Nothing of this machine's own configuration.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"AWS_ACCESS_KEY_ID=testing", "AWS_SECRET_ACCESS_KEY=testing", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=",
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("aws %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	if into != nil {
		if err := json.Unmarshal(out, into); err != nil {
			c.t.Fatalf("aws %s: %v", strings.Join(args, " "), err)
		}
	}
}

func TestWhatTheRealCommandLineMakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := cli{t, tools.External(t, "aws", "Amazon's command line; pip install awscli"), []string{"--region", region, "--output", "json", "--endpoint-url", moto(t)}}
	var subnets struct {
		Subnets []struct{ SubnetID, AvailabilityZone, AvailabilityZoneID, VpcID string }
	}
	c.run(&subnets, "ec2", "describe-subnets")
	if len(subnets.Subnets) < 3 {
		t.Fatalf("%d subnets", len(subnets.Subnets))
	}
	place := subnets.Subnets[2]

	// Cloud Map: attributes say zone, protocol, weight and labels.
	c.run(nil, "servicediscovery", "create-http-namespace", "--name", w.name)
	var namespaces struct {
		Namespaces []struct{ ID, Name string }
	}
	c.run(&namespaces, "servicediscovery", "list-namespaces")
	i := slices.IndexFunc(namespaces.Namespaces, func(n struct{ ID, Name string }) bool { return n.Name == w.name })
	var service struct{ Service struct{ ID string } }
	c.run(&service, "servicediscovery", "create-service", "--name", "map", "--namespace-id", namespaces.Namespaces[i].ID)
	c.run(nil, "servicediscovery", "register-instance", "--service-id", service.Service.ID, "--instance-id", "one", "--attributes",
		"AWS_INSTANCE_IPV4=10.9.0.1,AWS_INSTANCE_PORT=8080,AVAILABILITY_ZONE="+place.AvailabilityZone+",isthmus-protocol=http,isthmus-weight=7,version=v2")
	c.run(nil, "servicediscovery", "register-instance", "--service-id", service.Service.ID, "--instance-id", "name-only", "--attributes", "AWS_INSTANCE_CNAME=x.example.org")

	// EC2 and Auto Scaling.
	var ran struct {
		Instances []struct{ InstanceID, PrivateIPAddress string }
	}
	c.run(&ran, "ec2", "run-instances", "--image-id", "ami-12c6146b", "--count", "2", "--subnet-id", place.SubnetID, "--tag-specifications",
		"ResourceType=instance,Tags=[{Key=world,Value="+w.name+"},{Key=app,Value=vm},{Key=version,Value=v3},{Key=isthmus-weight,Value=many}]")
	stopped := ran.Instances[1]
	c.run(nil, "ec2", "stop-instances", "--instance-ids", stopped.InstanceID)
	c.run(nil, "autoscaling", "create-launch-configuration", "--launch-configuration-name", w.name, "--image-id", "ami-12c6146b", "--instance-type", "t3.nano")
	c.run(nil, "autoscaling", "create-auto-scaling-group", "--auto-scaling-group-name", w.name, "--launch-configuration-name", w.name,
		"--min-size", "1", "--max-size", "1", "--vpc-zone-identifier", place.SubnetID)
	var group struct {
		AutoScalingInstances []struct{ InstanceID, AutoScalingGroupName string }
	}
	c.run(&group, "autoscaling", "describe-auto-scaling-instances")
	i = slices.IndexFunc(group.AutoScalingInstances, func(g struct{ InstanceID, AutoScalingGroupName string }) bool {
		return g.AutoScalingGroupName == w.name
	})
	var grown struct {
		Reservations []struct {
			Instances []struct{ PrivateIPAddress string }
		}
	}
	c.run(&grown, "ec2", "describe-instances", "--instance-ids", group.AutoScalingInstances[i].InstanceID)

	// A target group of instances.
	var targets struct {
		TargetGroups []struct{ TargetGroupArn string }
	}
	c.run(&targets, "elbv2", "create-target-group", "--name", w.name, "--protocol", "HTTP", "--port", "9000", "--vpc-id", place.VpcID)
	c.run(nil, "elbv2", "register-targets", "--target-group-arn", targets.TargetGroups[0].TargetGroupArn, "--targets", "Id="+ran.Instances[0].InstanceID)

	// A task with a named port that speaks gRPC.
	var groups struct{ SecurityGroups []struct{ GroupID string } }
	c.run(&groups, "ec2", "describe-security-groups")
	c.run(nil, "ecs", "create-cluster", "--cluster-name", w.name)
	c.run(nil, "ecs", "register-task-definition", "--family", w.name, "--network-mode", "awsvpc", "--cpu", "256", "--memory", "512",
		"--requires-compatibilities", "FARGATE", "--container-definitions",
		`[{"name":"main","image":"example.org/main","memory":256,"portMappings":[{"name":"rpc","containerPort":50051,"appProtocol":"grpc"},{"containerPort":9090}]}]`)
	var task struct {
		Tasks []struct {
			TaskArn     string
			Attachments []struct {
				Details []struct{ Name, Value string }
			}
		}
	}
	c.run(&task, "ecs", "run-task", "--cluster", w.name, "--task-definition", w.name, "--group", "service:rpc", "--launch-type", "FARGATE",
		"--network-configuration", "awsvpcConfiguration={subnets=["+place.SubnetID+"],securityGroups=["+groups.SecurityGroups[0].GroupID+"]}")
	d := task.Tasks[0].Attachments[0].Details
	taskIP := d[slices.IndexFunc(d, func(d struct{ Name, Value string }) bool { return d.Name == "privateIPv4Address" })].Value

	a := aws.Account{
		Config: w.account, CloudMap: cloudmap.Namespaces{{Namespace: w.name, Services: []string{"map"}}},
		EC2:          ec2.Rules{{ServiceTag: "app", Tags: unit.Tags{"world": {w.name}}, Ports: []unit.Port{{Port: 22, Name: "ssh"}}}},
		AutoScaling:  autoscaling.Rules{{Service: "grown", Groups: []string{w.name}, Ports: []unit.Port{{Port: 80, Protocol: catalog.HTTP}}}},
		TargetGroups: elb.Rules{{Name: w.name, Service: "balanced"}},
		ECS:          ecs.Clusters{{Cluster: w.name, Services: []ecs.Service{{Name: "rpc"}}}},
	}
	conf := w.config(a)
	conf.Labels = []string{"version"}
	r := start(t, w.source(conf))
	r.await("five services", func(s *catalog.Snapshot) bool { return s.Len() == 5 })

	zone := catalog.Locality{Cloud: "aws", Region: region, Zone: place.AvailabilityZoneID}
	nowhere := zone.WithZone("") // moto's tasks have no zone
	at := "test/" + region + "/"
	name := task.Tasks[0].TaskArn[strings.LastIndexByte(task.Tasks[0].TaskArn, '/')+1:]
	want := map[string][]string{
		"map":      {line(at+"cloud-map/"+w.name+"/map/one", "default", "http", "10.9.0.1:8080", zone, 7, catalog.Passing, "v2")},
		"vm":       {line(at+"ec2/"+ran.Instances[0].InstanceID+":22", "ssh", "tcp", ran.Instances[0].PrivateIPAddress+":22", zone, 1, catalog.Unknown, "v3"), line(at+"ec2/"+stopped.InstanceID+":22", "ssh", "tcp", stopped.PrivateIPAddress+":22", zone, 1, catalog.Maintenance, "v3")},
		"grown":    {line(at+"auto-scaling/"+group.AutoScalingInstances[i].InstanceID+":80", "default", "http", grown.Reservations[0].Instances[0].PrivateIPAddress+":80", zone, 1, catalog.Passing, "")},
		"balanced": {line(at+"target-groups/"+w.name+"/"+ran.Instances[0].InstanceID+":9000", "default", "http", ran.Instances[0].PrivateIPAddress+":9000", zone, 1, catalog.Passing, "v3")},
		"rpc":      {line(at+"ecs/"+name+":50051", "rpc", "grpc", taskIP+":50051", nowhere, 1, catalog.Passing, ""), line(at+"ecs/"+name+":9090", "port-9090", "tcp", taskIP+":9090", nowhere, 1, catalog.Passing, "")},
	}
	for svc := range r.last().All() {
		var got []string
		for _, e := range svc.Endpoints {
			p, _ := svc.Port(e.Port)
			got = append(got, line(e.ID, e.Port, string(p.Protocol), e.Address.String(), e.Locality, e.Weight, e.Health, e.Labels["version"]))
		}
		slices.Sort(got)
		expected := want[svc.Name.Name()]
		slices.Sort(expected)
		if !slices.Equal(got, expected) {
			t.Errorf("service %s:\n got %s\nwant %s", svc.Name, strings.Join(got, "\n     "), strings.Join(expected, "\n     "))
		}
	}
	out, err := exec.CommandContext(t.Context(), c.bin, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("figure: providers/aws agrees with %s on %d services of 5 kinds", strings.TrimSpace(string(out)), len(want))
}

func line(id, port, protocol, address string, l catalog.Locality, weight uint32, health catalog.Health, version string) string {
	data, err := json.Marshal([]any{id, port, protocol, address, l.String(), weight, health, version})
	if err != nil {
		panic(err)
	}
	return string(data)
}
