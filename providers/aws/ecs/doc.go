// Package ecs reads the tasks of ECS clusters: those with an address of their own
// (network mode awsvpc), on Fargate or EC2, as endpoints of the service that
// started them, with the health of their containers.
package ecs
