"""The Lambda function that one would write first: every client made at import, the framework as it comes.

`make bench` measures the service's cold start against it. It shows a task of the same table, and does nothing else.
"""

import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from fastapi import FastAPI, HTTPException
from mangum import Mangum
from pydantic import BaseModel

logger = Logger(service="plain")
metrics = Metrics(namespace="Plain", service="plain")
dynamodb = boto3.client("dynamodb")
s3 = boto3.client("s3")
batch = boto3.client("batch")
app = FastAPI()


class Task(BaseModel):
    task_id: str
    status: str


@app.get("/ffmpeg/status/{task_id}")
def status(task_id: str) -> Task:
    answer = dynamodb.get_item(TableName=os.environ["TASK_TABLE"], Key={"task_id": {"S": task_id}}, ConsistentRead=True)
    if "Item" not in answer:
        raise HTTPException(404)
    return Task.model_validate_json(answer["Item"]["body"]["S"])


_adapter = Mangum(app, lifespan="off")


@metrics.log_metrics(capture_cold_start_metric=True)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    answer: dict[str, Any] = _adapter(event, context)
    return answer
