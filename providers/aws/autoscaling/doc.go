// Package autoscaling reads Auto Scaling groups: their instances are endpoints,
// whose health is the lifecycle state and the health that the group knows.
package autoscaling
